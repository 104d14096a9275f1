"""The complete spectrum of an operator: by stochastic Lanczos quadrature, or exactly from a dense matrix."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError, one_of
from edgescope.linalg.capacity import check_memory
from edgescope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from edgescope.linalg.lanczos import Lanczos
from edgescope.linalg.nodes import Nodes, add_known, from_eigenvalues
from edgescope.linalg.operator import Operator, OperatorLike, as_operator, products_with_units
from edgescope.linalg.sketch import rademacher
from edgescope.linalg.spectral_density import Method, Spectrum, from_quadratures
from edgescope.memory import require
from edgescope.options import check_function, checked, integer, optional

_GROUP_BYTES = 2**30  # memory of the bases of one group of probes; probes beyond it run in further groups


@checked(
    probes=integer(1),
    steps=integer(1),
    deflate=integer(0),
    max_steps=optional(integer(1)),
    stop_when=optional(check_function),
)
@in_plain_arithmetic
def spectrum(
    operator: OperatorLike,
    *,
    method: Method = "slq",
    probes: int = 4,
    steps: int = 64,
    deflate: int = 0,
    seed: int = 0,
    max_steps: int | None = None,
    stop_when: Callable[[Spectrum], bool] | None = None,
) -> Spectrum:
    """The spectrum of an Objective's Hessian, an operator or a symmetric matrix.

    Args:
        operator: an Objective, an :class:`Operator` or a dense symmetric matrix.
        method: "slq", stochastic Lanczos quadrature: Lanczos runs with full reorthogonalisation from random vectors,
            whose Ritz values are the nodes and whose squared first components are the weights. The moments of each
            vector's spectral measure are exact up to degree 2 steps - 1. "exact": all eigenvalues of the dense float64
            matrix; the products have the operator's precision, so that null and tiny eigenvalues need an Objective in
            float64 (``dtype=torch.float64``).
        probes: number of random (Rademacher) vectors.
        steps: Lanczos steps for each of them.
        deflate: number of largest eigenpairs that are first computed (about 10 products each) and counted exactly, so
            that only the others are sampled. Where a few large eigenvalues dominate a sum, this makes its standard
            error much smaller.
        seed: seed of the random vectors.
        max_steps: number of steps up to which ``stop_when`` may double it.
        stop_when: while ``stop_when(spectrum)`` is False, the number of steps is doubled; the products so far are kept.
            Where the vectors run in several groups, the first group decides for all.

    Cost: ``probes * steps`` products, or P products in blocks for "exact". Memory: ``probes * steps`` vectors of length
    P, at most about 1 GiB of them at a time; P^2 numbers for "exact", which is for P up to about 10,000.

    Raises :class:`InputError` for arguments that cannot be used, :class:`MemoryBudgetError` where it does not fit.
    Sources: Golub and Meurant, Matrices, Moments and Quadrature, 2010, ch. 6; Ubaru, Chen and Saad, SIAM J. Matrix
    Anal. Appl. 38 (2017) 1075.
    """
    began = time.perf_counter()
    one_of(method, get_args(Method), "method")
    operator = as_operator(operator)
    before, paid = operator.products, operator.spent
    with operator.held():
        if method == "exact":
            found = _exact(operator)
        else:
            generator = torch.Generator().manual_seed(seed)
            deepest = min(max(steps, max_steps or steps), operator.size)
            sampled = _Sampled(operator, deflate, seed)
            found = _slq(sampled, probes, steps, deepest, generator, stop_when or (lambda _: True))
    spent, seconds = operator.products - before, time.perf_counter() - began
    cost = operator.spent - paid
    return replace(found, products=spent, cost=cost, seconds=seconds, mode=operator.mode)


def _exact(operator: Operator) -> Spectrum:
    require(
        4 * 8 * operator.size**2,  # the matrix, its symmetric part, and what the eigensolver copies
        f"a dense matrix of size {operator.size}",
        hint='method="slq" or a smaller model',
    )
    products = products_with_units(operator) if operator.matrix is None else operator.matrix.double().cpu()
    epsilon = torch.finfo(operator.dtype if operator.matrix is None else torch.float64).eps
    skew = float(torch.linalg.matrix_norm(products - products.T)) / 2
    values = torch.linalg.eigvalsh((products + products.T) / 2)
    inexact = math.sqrt(operator.size) * operator.product_error  # at most that of ||H||_F
    rounding = skew + inexact + epsilon * float(values.abs().max())
    return from_quadratures([from_eigenvalues(values)], operator.size, "exact", operator.size, rounding)


class _Sampled:
    """An operator projected onto the orthogonal complement of its ``deflate`` largest eigenvectors."""

    def __init__(self, operator: Operator, deflate: int, seed: int) -> None:
        self.operator = operator
        if deflate >= operator.size:
            raise InputError(f"deflate={deflate} for an operator of size {operator.size}", expected="a smaller number")
        self.known: Eigenpairs | None = top_eigenpairs(operator, deflate, seed=seed) if deflate else None
        self.projected = operator.derived(lambda block: self.complement(operator @ block)) if deflate else operator

    def complement(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """The component of the columns that is orthogonal to the deflated eigenvectors."""
        if self.known is None:
            return block
        return block - self.known.vectors @ (self.known.vectors.T @ block)

    def nodes(self, probes: Lanczos, depth: int) -> list[Nodes]:
        """The quadrature of each probe from its first ``depth`` steps, with the deflated eigenvalues."""
        sampled = [probes.nodes(run, depth) for run in range(probes.runs)]
        if self.known is None:
            return sampled
        known = self.known.values.double().cpu()
        return [add_known(one, known, self.operator.size) for one in sampled]


def _slq(
    sampled: _Sampled,
    probes: int,
    steps: int,
    deepest: int,
    generator: torch.Generator,
    stop_when: Callable[[Spectrum], bool],
) -> Spectrum:
    operator = sampled.operator
    steps = min(steps, deepest)
    bytes_per_probe = deepest * operator.size * operator.dtype.itemsize
    group = max(1, min(probes, _GROUP_BYTES // bytes_per_probe))
    check_memory(group * (deepest + 1), operator)
    fine: list[Nodes] = []
    coarse: list[Nodes] = []
    skew = 0.0

    def so_far(runs: Lanczos, depth: int) -> Spectrum:
        half = -(-depth // 2)
        shallow = from_quadratures(coarse + sampled.nodes(runs, half), operator.size, "slq", half)
        deep = from_quadratures(fine + sampled.nodes(runs, depth), operator.size, "slq", depth)
        epsilon = torch.finfo(operator.dtype).eps
        rounding = max(skew, runs.skew) + operator.product_error + epsilon * float(deep.nodes.abs().max())
        return replace(deep, half=shallow, rounding=rounding)

    for first in range(0, probes, group):
        signs = sampled.complement(rademacher(operator, min(group, probes - first), generator))
        runs = Lanczos(sampled.projected, signs, deepest)
        runs.extend(steps)
        while not first and steps < deepest and not stop_when(so_far(runs, steps)):
            steps = min(2 * steps, deepest)
            runs.extend(steps)
        found = so_far(runs, steps)
        fine += sampled.nodes(runs, steps)
        coarse += sampled.nodes(runs, -(-steps // 2))
        skew = max(skew, runs.skew)
        del runs  # before those of the next turn: its vectors take as much memory
    return found
