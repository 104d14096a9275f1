"""The whole spectrum of an operator: exactly from a dense matrix, or by stochastic Lanczos quadrature."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError, one_of
from edgescope.linalg.basis import check_memory
from edgescope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from edgescope.linalg.lanczos import Lanczos
from edgescope.linalg.operator import Operator, as_operator, to_matrix
from edgescope.linalg.spectral import Method, Spectrum, from_measures
from edgescope.linalg.trace import rademacher
from edgescope.memory import require

_TOGETHER = 2**30  # bytes of bases that advance side by side; more probes than fit go in turns

Measures = list[tuple[Float[Tensor, " m"], Float[Tensor, " m"]]]
"""Nodes and weights of each probe; the weights of one sum to 1."""


def spectrum(
    thing: Any,
    *,
    method: Method = "slq",
    probes: int = 4,
    steps: int = 64,
    deflate: int = 0,
    seed: int = 0,
    max_steps: int | None = None,
    enough: Callable[[Spectrum], bool] | None = None,
) -> Spectrum:
    """The spectrum of an Objective's Hessian, an operator or a symmetric matrix.

    ``"slq"``: from each of ``probes`` Rademacher vectors ``steps`` Lanczos steps with full reorthogonalisation; nodes
    are the Ritz values, weights the squared first components. ``probes * steps`` products, the probes side by side in
    one block; ``probes * steps`` vectors of length P are held, of as many probes as fit into 1 GiB at a time. Exact for
    moments up to degree 2 steps - 1 of each probe's own spectral measure.

    ``deflate=k`` first finds the k largest eigenpairs (some 10 k products more), counts them exactly, and samples the
    rest: where a few large eigenvalues carry a sum, its standard error shrinks by far.

    ``enough`` is asked of the spectrum of the probes that advance together: while it says no, they double their depth,
    up to ``max_steps``, and keep the products they have; probes of later turns go to the depth that was reached.

    ``"exact"``: all eigenvalues of the dense float64 matrix, from P products in blocks; P^2 numbers are held, so for P
    up to some 10,000. The products themselves have the operator's precision: null and tiny eigenvalues need an
    Objective in float64 (``dtype=torch.float64``).

    Raises :class:`InputError` for arguments that cannot be used, :class:`MemoryBudgetError` where it does not fit.
    Sources: Golub and Meurant, Matrices, Moments and Quadrature, 2010, ch. 6; Ubaru, Chen and Saad, SIAM J. Matrix
    Anal. Appl. 38 (2017) 1075.
    """
    began = time.perf_counter()
    one_of(method, get_args(Method), "method")
    for name, value, least in (("probes", probes, 1), ("steps", steps, 1), ("deflate", deflate, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value}", expected=f"a whole number of at least {least}")
    operator = as_operator(thing)
    before = operator.products
    if method == "exact":
        found = _exact(operator)
    else:
        generator = torch.Generator().manual_seed(seed)
        deepest = min(max(steps, max_steps or steps), operator.size)
        found = _slq(_Sampled(operator, deflate, seed), probes, steps, deepest, generator, enough or (lambda _: True))
    spent, seconds = operator.products - before, time.perf_counter() - began
    return replace(found, products=spent, cost=Cost(products=spent), seconds=seconds)


def _exact(operator: Operator) -> Spectrum:
    require(
        4 * 8 * operator.size**2,  # the matrix, its symmetric part, and what the eigensolver copies
        f"a dense matrix of size {operator.size}",
        hint='method="slq" or a smaller model',
    )
    matrix = operator.matrix
    nodes = torch.linalg.eigvalsh(to_matrix(operator) if matrix is None else _symmetric(matrix))
    return from_measures([(nodes, torch.full_like(nodes, 1 / operator.size))], operator.size, "exact", operator.size)


def _symmetric(matrix: Float[Tensor, "P P"]) -> Float[Tensor, "P P"]:
    matrix = matrix.double().cpu()
    return (matrix + matrix.T) / 2


class _Sampled:
    """What the probes see of an operator: all of it, or what is left beside its ``deflate`` largest eigenpairs."""

    def __init__(self, operator: Operator, deflate: int, seed: int) -> None:
        self.operator = operator
        if deflate >= operator.size:
            raise InputError(f"deflate={deflate} for an operator of size {operator.size}", expected="fewer than that")
        self.known: Eigenpairs | None = top_eigenpairs(operator, deflate, seed=seed) if deflate else None

    def beside(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """The part of the columns that is orthogonal to the deflated eigenvectors."""
        if self.known is None:
            return block
        return block - self.known.vectors @ (self.known.vectors.T @ block)

    def multiply(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self.beside(self.operator @ block)

    def measures(self, probes: Lanczos, depth: int) -> Measures:
        """Nodes and weights of all probes from their first ``depth`` steps, with the deflated eigenvalues."""
        sampled = [probes.measure(run, depth) for run in range(probes.runs)]
        if self.known is None:
            return sampled
        size, values = self.operator.size, self.known.values.double().cpu()
        shares, rest = torch.full_like(values, 1 / size), 1 - len(values) / size
        return [(torch.cat([nodes, values]), torch.cat([rest * weights, shares])) for nodes, weights in sampled]


def _slq(
    sampled: _Sampled,
    probes: int,
    steps: int,
    deepest: int,
    generator: torch.Generator,
    enough: Callable[[Spectrum], bool],
) -> Spectrum:
    operator = sampled.operator
    steps = min(steps, deepest)
    each = deepest * operator.size * torch.finfo(operator.dtype).bits // 8
    together = max(1, min(probes, _TOGETHER // each))
    check_memory(together * (deepest + 1), operator)
    fine: Measures = []
    coarse: Measures = []

    def gathered(probes: Lanczos, depth: int) -> Spectrum:
        half = -(-depth // 2)
        shallow = from_measures(coarse + sampled.measures(probes, half), operator.size, "slq", half)
        return replace(from_measures(fine + sampled.measures(probes, depth), operator.size, "slq", depth), half=shallow)

    for first in range(0, probes, together):
        signs = sampled.beside(rademacher(operator, min(together, probes - first), generator))
        runs = Lanczos(sampled.multiply, signs, deepest)
        runs.extend(steps)
        while not first and steps < deepest and not enough(gathered(runs, steps)):
            steps = min(2 * steps, deepest)
            runs.extend(steps)
        found = gathered(runs, steps)
        fine += sampled.measures(runs, steps)
        coarse += sampled.measures(runs, -(-steps // 2))
    return found
