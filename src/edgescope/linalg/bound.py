"""Bounds on the largest eigenvalue from above (Ritz values bound it from below), with a stated confidence."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.basis import Basis
from edgescope.linalg.eigenpairs import check_size, whitened
from edgescope.linalg.metric import Metric, check_metric
from edgescope.linalg.operator import OperatorLike, as_operator
from edgescope.options import checked, integer, real
from edgescope.transfers import send

_DENSE_SIZE = 3000  # the largest matrix that is decomposed


class EigenvalueBound:
    """``lower <= largest eigenvalue <= upper``, the upper bound with a probability of at least ``confidence``.

    The eigenvalue is that of ``operator``, or of M^(-1/2) H M^(-1/2) for a ``metric`` M. ``extend(steps)`` tightens
    both bounds, up to ``max_steps`` in all. The probability, 1 - ``failure_probability``, is over the random start, not
    over operators.

    An operator that has its matrix (up to 3,000 rows) is decomposed without products; the bounds then differ by
    2 rows eps ||H|| for rounding, and the confidence is 1. For any other operator the bound comes from a Lanczos run
    with a Gaussian start that is used for nothing else. With a probability of at least 1 - t sqrt(2 n / pi) the squared
    component of the normalised start along the top eigenvector is at least t^2. Then the largest eigenvalue is at most
    the x beyond the Ritz values at which sum_j p_j(x)^2 = 1/t^2, where p_j are the orthonormal polynomials of the run:
    1 / sum_j p_j(x)^2 is the largest weight at x of any spectrum with the same moments. No gap is assumed.

    Rounding of the products is included as 10 eps ||H||. Memory: one vector for each step. Raises
    :class:`MemoryBudgetError` where ``max_steps`` steps do not fit. Sources: van Dorsselaer, Hochstenbach and van der
    Vorst, SIAM J. Matrix Anal. Appl. 22 (2000) 837; Kuczynski and Wozniakowski, ibid. 13 (1992) 1094.
    """

    lower: float
    upper: float
    confidence: float

    @checked(max_steps=integer(1), failure_probability=real(above=0, below=1), metric=check_metric)
    def __init__(
        self,
        operator: OperatorLike,
        *,
        metric: Metric | None = None,
        max_steps: int = 60,
        failure_probability: float = 1e-3,
        seed: int = 0,
    ) -> None:
        operator = as_operator(operator)
        self._before, self._counter = operator.products, operator
        self._dense: tuple[Tensor, Tensor] | None = None
        if operator.matrix is not None and operator.size <= _DENSE_SIZE:
            self._decompose(operator.matrix.double(), metric)
            self.confidence = 1.0
            return
        white = whitened(operator, metric)
        self._epsilon = torch.finfo(white.dtype).eps
        self.confidence = 1 - failure_probability
        self.lower, self.upper = -math.inf, math.inf
        self._basis, self._steps = Basis(white, max_steps), min(max_steps, white.size)
        self._weight = math.sqrt(2 * operator.size / math.pi) / failure_probability
        draw = torch.Generator().manual_seed(seed)
        fresh = torch.randn(1, operator.size, generator=draw, dtype=white.dtype, device="cpu")
        self._basis.append(send(fresh, self._basis.rows))

    @property
    def products(self) -> int:
        return self._counter.products - self._before

    @property
    def exhausted(self) -> bool:
        """Whether more steps cannot tighten the bounds: a decomposed matrix, a full basis, or an invariant subspace."""
        return self._dense is not None or not self._basis.outward or self._basis.size == self._steps

    @checked(steps=integer(0))
    def extend(self, steps: int) -> EigenvalueBound:
        """Take up to ``steps`` more Lanczos steps, one product each; returns this object."""
        if self._dense is not None:
            return self
        basis = self._basis
        with basis.operator.held():
            for _ in range(steps):
                if self.exhausted:
                    break
                basis.expand()
                self._last = float(basis.coupling[-1, 0]) if basis.outward else 0.0
        self._update_bounds()
        return self

    @checked(count=integer(1))
    def vectors(self, count: int) -> Float[Tensor, "P j"]:
        """The Ritz vectors of the ``count`` largest Ritz values, largest first, in the operator's precision."""
        if self._dense is not None:
            return self._dense[1][:, -count:].flip(1)
        ritz = self._basis.ritz()
        return self._basis.combine(ritz.coordinates[:, :count]).T

    def _update_bounds(self) -> None:
        ritz, projection = self._basis.ritz(), self._basis.projection
        rounding = 10 * self._epsilon * ritz.magnitude
        above = _beyond(projection.diagonal().tolist(), [*projection.diagonal(1).tolist(), self._last], self._weight)
        self.lower = max(self.lower, float(ritz.values[0]) - rounding)
        self.upper = min(self.upper, above + rounding)

    def _decompose(self, matrix: Tensor, metric: Metric | None) -> None:
        if metric is not None:
            check_size(metric, matrix.shape[0])
            matrix = metric.inverse_root(metric.inverse_root(matrix).T)
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        rounding = matrix.shape[0] * torch.finfo(torch.float64).eps * float(values.abs().max())
        self.lower, self.upper = float(values[-1]) - rounding, float(values[-1]) + rounding
        self._dense = (values, vectors)


def _beyond(diagonal: list[float], off: list[float], weight: float) -> float:
    """The x beyond the largest Ritz value of a Lanczos run at which sum_j p_j(x)^2 reaches weight^2.

    ``off`` is the off-diagonal. ``off[-1]`` couples to the next vector, and is 0 where the Krylov space is exhausted.
    """
    ritz = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1))
    top, width = float(ritz[-1]), float(ritz[-1] - ritz[0]) + max(off)
    if off[-1] == 0:
        return top

    def reached(x: float) -> bool:
        before, now, total = 0.0, 1.0, 1.0
        for j, alpha in enumerate(diagonal):
            before, now = now, ((x - alpha) * now - (off[j - 1] if j else 0.0) * before) / off[j]
            total += now * now
            if total >= weight * weight:
                return True
        return False

    while not reached(top + width):
        width *= 2
    low, high = 0.0, width
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(top + middle) else (middle, high)
    return top + high
