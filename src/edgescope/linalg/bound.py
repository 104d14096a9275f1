"""A bound above the largest eigenvalue, which no Ritz value is: exact for a matrix, else with a stated chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.basis import Basis
from edgescope.linalg.eigenpairs import whitened
from edgescope.linalg.metric import Metric
from edgescope.linalg.operator import as_operator

_DENSE_SIZE = 3000  # the largest matrix at hand that is decomposed


class EigenvalueBound:
    """``lower <= largest eigenvalue``, and ``largest eigenvalue <= upper`` with a chance of at least ``confidence``.

    Of ``thing``, or of M^(-1/2) H M^(-1/2) for a ``metric`` M. ``extend(steps)`` tightens both ends. The chance is over
    the random start, not over operators.

    An operator that carries its matrix (up to 3,000 rows) is decomposed, at no product; rows x eps x norm allows for
    rounding, and the confidence is 1. Any other is met by Lanczos from a Gaussian vector that nothing else was computed
    from. If its weight on the top eigenvector is at least t, which fails with a chance below t sqrt(2 n / pi), the
    largest eigenvalue lies no further out than where sum_j p_j(x)^2 = 1/t^2: p_j are the orthonormal polynomials of the
    run, and their sum of squares bounds the weight of any spectrum with the same moments at x. No gap is presumed.

    Rounding in the products is allowed for by 10 eps ||H||. Sources: van Dorsselaer, Hochstenbach and van der Vorst,
    SIAM J. Matrix Anal. Appl. 22 (2000) 837; Kuczynski and Wozniakowski, ibid. 13 (1992) 1094. Memory: two vectors a
    step. Raises :class:`MemoryBudgetError` where ``most`` steps would not fit.
    """

    lower: float
    upper: float
    confidence: float

    def __init__(
        self,
        thing: Any,
        *,
        metric: Metric | None = None,
        most: int = 60,
        failure: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if most < 1:
            raise InputError(f"at most {most} Lanczos steps", expected="at least 1")
        if not 0 < failure < 1:
            raise InputError(f"failure = {failure}", expected="a chance between 0 and 1")
        operator = as_operator(thing)
        self._before, self._counter = operator.products, operator
        self._dense: tuple[Tensor, Tensor] | None = None
        if operator.matrix is not None and operator.size <= _DENSE_SIZE:
            self._decompose(operator.matrix.double(), metric)
            self.confidence = 1.0
            return
        white = whitened(operator, metric)
        self._epsilon = torch.finfo(white.dtype).eps
        self.confidence = 1 - failure
        self.lower, self.upper = -math.inf, math.inf
        self._basis = Basis(white, most)
        self._weight = math.sqrt(2 * operator.size / math.pi) / failure
        fresh = torch.randn(1, operator.size, generator=torch.Generator().manual_seed(seed), dtype=white.dtype)
        self._basis.propose(fresh.to(operator.device))

    @property
    def products(self) -> int:
        return self._counter.products - self._before

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to extend: a decomposed matrix, a full basis, an invariant space."""
        return self._dense is not None or not self._basis.proposed or self._basis.room == 0

    def extend(self, steps: int) -> EigenvalueBound:
        """Up to ``steps`` further products; returns itself."""
        if self._dense is not None:
            return self
        basis = self._basis
        for _ in range(steps):
            if self.exhausted:
                break
            basis.commit()
            floor = 10 * self._epsilon * max(basis.ritz().magnitude, 1e-300)
            coupling = basis.propose(basis.images[-1:], known=basis.projection[-1:], floor=floor)
            self._last = float(coupling[0, 0]) if basis.proposed else 0.0
        self._judge()
        return self

    def vectors(self, count: int) -> Float[Tensor, "P j"]:
        """The Ritz vectors of the ``count`` largest Ritz values, largest first, in the operator's precision."""
        if self._dense is not None:
            return self._dense[1][:, -count:].flip(1)
        ritz = self._basis.ritz()
        return self._basis.combine(ritz.coordinates[:, :count]).T

    def _judge(self) -> None:
        ritz, projection = self._basis.ritz(), self._basis.projection
        rounding = 10 * self._epsilon * ritz.magnitude
        above = _beyond(projection.diagonal().tolist(), [*projection.diagonal(1).tolist(), self._last], self._weight)
        self.lower = max(self.lower, float(ritz.values[0]) - rounding)
        self.upper = min(self.upper, above + rounding)

    def _decompose(self, matrix: Tensor, metric: Metric | None) -> None:
        if metric is not None:
            matrix = metric.inverse_root(metric.inverse_root(matrix).T)
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        rounding = matrix.shape[0] * torch.finfo(torch.float64).eps * float(values.abs().max())
        self.lower, self.upper = float(values[-1]) - rounding, float(values[-1]) + rounding
        self._dense = (values, vectors)


def _beyond(diagonal: list[float], off: list[float], weight: float) -> float:
    """Where, beyond the largest Ritz value of a Lanczos run, sum_j p_j(x)^2 reaches weight^2.

    ``off[-1]`` couples to the vector that would come next; 0 if the run exhausted the space of its start.
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
