"""The whole spectrum of an operator: exactly from a dense matrix, or by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.basis import Basis, check_memory
from edgescope.linalg.operator import Operator, as_operator, to_matrix
from edgescope.linalg.trace import rademacher

_TOGETHER = 2**30  # bytes of bases that advance side by side; more probes than fit go in turns


@dataclass(frozen=True)
class Spectrum:
    """A spectral distribution: n ``nodes`` in ascending order, and ``weights`` that sum to 1.

    The number of eigenvalues in a region is ``size`` times the weight there. ``probe`` tells which random vector each
    node comes from (all 0 for an exact spectrum, whose nodes are the eigenvalues). ``trace_error`` is the standard
    error of ``trace`` over probes: 0 when exact, infinite for a single probe.
    """

    nodes: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    probe: Int[Tensor, " n"]
    size: int
    trace: float
    trace_error: float
    method: Literal["exact", "slq"]
    probes: int
    steps: int
    products: int
    cost: Cost
    seconds: float

    def density(self, x: Float[Tensor, " x"], width: float | None = None) -> Float[Tensor, " x"]:
        """The density at the points ``x``, smoothed by a Gaussian of standard deviation ``width``; integrates to 1.

        ``width`` has the unit of the eigenvalues; by default a hundredth of the range of the nodes.
        """
        if width is None:
            reach = float(self.nodes[-1] - self.nodes[0])
            width = 0.01 * (reach or abs(float(self.nodes[0])) or 1.0)
        if not 0 < width < math.inf:
            raise InputError(f"a width of {width} for a density", expected="a positive number")
        points = torch.as_tensor(x, dtype=torch.float64)
        bells = torch.exp(-0.5 * ((points[:, None] - self.nodes) / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return bells @ self.weights


def spectrum(
    thing: Any, *, method: Literal["slq", "exact"] = "slq", probes: int = 4, steps: int = 64, seed: int = 0
) -> Spectrum:
    """The spectrum of an Objective's Hessian, an operator or a symmetric matrix.

    ``"slq"``: from each of ``probes`` Rademacher vectors ``steps`` Lanczos steps with full reorthogonalisation; nodes
    are the Ritz values, weights the squared first components. ``probes * steps`` products, the probes side by side in
    one block. Exact for moments up to degree 2 steps - 1 of each probe's own spectral measure.
    ``"exact"``: all eigenvalues of the dense float64 matrix from P products; for P up to some 10,000.

    Raises :class:`InputError` for arguments that cannot be used, :class:`MemoryBudgetError` where it does not fit.
    Sources: Golub and Meurant, Matrices, Moments and Quadrature, 2010, ch. 6; Ubaru, Chen and Saad, SIAM J. Matrix
    Anal. Appl. 38 (2017) 1075.
    """
    began = time.perf_counter()
    operator = as_operator(thing)
    before = operator.products
    if method == "exact":
        measures = [_exact(operator)]
    elif method == "slq":
        if probes < 1 or steps < 1:
            raise InputError(f"probes={probes}, steps={steps}", expected="at least 1 of each")
        measures = _slq(operator, probes, min(steps, operator.size), torch.Generator().manual_seed(seed))
    else:
        raise InputError(f"method='{method}'", expected="'slq' or 'exact'")
    count = len(measures)
    traces = torch.stack([operator.size * (nodes @ weights) for nodes, weights in measures])
    nodes, order = torch.cat([nodes for nodes, _ in measures]).sort()
    error = float(traces.std() / count**0.5) if count > 1 else math.inf
    spent = operator.products - before
    return Spectrum(
        nodes=nodes,
        weights=torch.cat([weights for _, weights in measures])[order] / count,
        probe=torch.cat([torch.full((len(m[0]),), i) for i, m in enumerate(measures)])[order],
        size=operator.size,
        trace=float(traces.mean()),
        trace_error=0.0 if method == "exact" else error,
        method=method,
        probes=count,
        steps=operator.size if method == "exact" else min(steps, operator.size),
        products=spent,
        cost=Cost(products=spent),
        seconds=time.perf_counter() - began,
    )


def _exact(operator: Operator) -> tuple[Tensor, Tensor]:
    nodes = torch.linalg.eigvalsh(to_matrix(operator))
    return nodes, torch.full_like(nodes, 1 / operator.size)


def _slq(operator: Operator, probes: int, steps: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    each = steps * operator.size * torch.finfo(operator.dtype).bits // 8
    together = max(1, min(probes, _TOGETHER // each))
    check_memory(together * (steps + 1), operator)
    measures = []
    for first in range(0, probes, together):
        signs = rademacher(operator, min(together, probes - first), generator)
        bases = [Basis(operator, steps, keep_images=False) for _ in range(signs.shape[1])]
        for basis, start in zip(bases, signs.T, strict=True):
            basis.propose(start[None])
        growing = bases
        while growing:
            images = (operator @ torch.cat([basis.pending for basis in growing]).T).T
            for basis, image in zip(growing, images.split(1), strict=True):
                basis.commit(image)
                floor = 10 * torch.finfo(operator.dtype).eps * basis.ritz().magnitude
                if basis.room:
                    basis.propose(image, known=basis.projection[-1:], floor=floor)
            growing = [basis for basis in growing if basis.proposed]
        for basis in bases:
            ritz = basis.ritz()
            measures.append((ritz.values, ritz.coordinates[0] ** 2))
    return measures
