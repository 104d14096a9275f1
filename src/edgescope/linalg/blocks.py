"""Traces and largest eigenvalues of the diagonal blocks of an operator, all from shared products."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.capacity import check_memory
from edgescope.linalg.operator import Operator, OperatorLike, as_operator
from edgescope.linalg.search import value_errors
from edgescope.linalg.sketch import rademacher
from edgescope.notebooks import in_notebooks
from edgescope.options import checked, integer, real

Blocks = Mapping[str, Sequence[slice]]
"""The slices of the parameter vector that each block consists of, by the block's name."""

LEAST_PROBES: Final = 4
"""Of fewer probes the scatter says nothing about the error of a mean."""

_BASIS = 20  # vectors of every block between restarts
_KEPT = 6  # Ritz vectors that a restart keeps
_NEW = 0.1  # random part of a start vector, so that another eigenvector can grow beyond the earlier one
_ASYMMETRY = 6  # rounding errors of values in float32 were up to six times the asymmetry of the products
_ROUNDING = 10  # what counts as zero, in units of eps times the norm of the block


@in_notebooks
@dataclass(frozen=True)
class BlockTraces:
    """The trace of each diagonal block by name, in the unit of the eigenvalues; ``error`` is one standard error.

    ``method`` is "exact" where unit vectors were multiplied; the errors are then of rounding alone. ``products`` counts
    operator products, ``mode`` is that of the operator.
    """

    values: dict[str, float]
    error: dict[str, float]
    products: int
    cost: Cost
    seconds: float
    method: Literal["exact", "probes"]
    mode: str | None = None


@in_notebooks
@dataclass(frozen=True)
class BlockEigenvalues:
    """The largest eigenvalue of each diagonal block by name.

    ``vector`` has the unit eigenvector of every block in the places of that block, zeros elsewhere: a start for the
    next call. ``residuals`` are the norms of H_bb v - value v. ``error`` is an estimated bound: twice residual^2 / gap,
    since the second Ritz value is below the second eigenvalue, at most the residual, and at least the rounding of the
    products, which their asymmetry shows. Over 60 small networks 58 of the true values were within it, with either a
    tolerance of 1e-2 or of 1e-3. ``products`` counts operator products, ``mode`` is that of the operator.
    """

    values: dict[str, float]
    error: dict[str, float]
    residuals: dict[str, float]
    converged: dict[str, bool]
    vector: Float[Tensor, " P"]
    products: int
    cost: Cost
    seconds: float
    mode: str | None = None


@checked(num_matvecs=integer(LEAST_PROBES), block=integer(1))
@in_plain_arithmetic
def block_traces(
    operator: OperatorLike, blocks: Blocks, *, num_matvecs: int = 30, seed: int = 0, block: int = 8
) -> BlockTraces:
    """The traces of all diagonal blocks from the same ``num_matvecs`` products with Rademacher vectors z.

    z_b·(Hz)_b is an unbiased estimate of tr H_bb for every block b at once, since entries of z in different blocks are
    independent. Its variance is 2 ||off H_bb||_F^2 + sum over other blocks c of ||H_bc||_F^2, where off H_bb has no
    diagonal. The second term is the price of sharing products: probes of one block alone do not have it. An operator
    with at most ``num_matvecs`` rows is multiplied with all unit vectors instead.

    The standard error is that of the mean over probes, multiplied by sqrt((n - 1) / (n - 3)) because the scatter of n
    probes is itself an estimate, and at least the rounding of the products. Products are made in blocks of ``block``
    vectors. Raises :class:`InputError` for blocks that overlap, are empty, or lie outside of the vector.
    """
    began = time.perf_counter()
    operator = as_operator(operator)
    places = _places(blocks, operator)
    before, paid = operator.products, operator.spent
    exact = operator.size <= num_matvecs
    check_memory(4 * block, operator)
    forms: dict[str, list[float]] = {name: [] for name in places}
    squares: dict[str, list[float]] = {name: [] for name in places}
    skew = dict.fromkeys(places, 0.0)
    generator = torch.Generator().manual_seed(seed)
    with operator.held():
        images = []
        for first in range(0, operator.size if exact else num_matvecs, block):
            width = min(block, (operator.size if exact else num_matvecs) - first)
            z = _units(operator, first, width) if exact else rademacher(operator, width, generator)
            image = operator @ z
            for name, own in places.items():
                part = image[own].double()
                forms[name] += (z[own] * part).sum(0).tolist()
                squares[name] += part.square().sum(0).tolist()
            images += [image.double()] if exact else []
    if exact:
        matrix = torch.cat(images, dim=1)
        for name, own in places.items():
            square = matrix[own][:, own]
            skew[name] = float((square - square.T).norm()) / 2
    values, errors = {}, {}
    for name, own in places.items():
        size = math.sqrt(sum(squares[name]) if exact else _mean(squares[name]))
        rounding = 4 * skew[name] + 4 * torch.finfo(operator.dtype).eps * size + len(own) * operator.form_error
        values[name] = sum(forms[name]) if exact else _mean(forms[name])
        errors[name] = rounding if exact else math.hypot(_standard_error(forms[name]), rounding)
    return BlockTraces(
        values,
        errors,
        operator.products - before,
        operator.spent - paid,
        time.perf_counter() - began,
        "exact" if exact else "probes",
        operator.mode,
    )


@checked(tol=real(above=0, below=1), max_products=integer(2), block=integer(1))
@in_plain_arithmetic
def block_eigenvalues(
    operator: OperatorLike,
    blocks: Blocks,
    *,
    tol: float = 1e-2,
    start: Float[Tensor, " P"] | None = None,
    max_products: int = 200,
    seed: int = 0,
    block: int = 8,
) -> BlockEigenvalues:
    """The largest eigenvalue of every diagonal block H_bb, by Lanczos iterations in all blocks side by side.

    Each iteration multiplies a vector of every block that has not converged, zero outside of the block, as the columns
    of one product (of at most ``block`` columns at a time). Vectors of different blocks share memory, since their
    places differ: a basis of 20 vectors of length P serves all blocks. Full reorthogonalisation, twice, and thick
    restart.

    Args:
        operator: an Objective, an :class:`Operator` or a dense symmetric matrix.
        blocks: the slices of each block by name, as ``{"layer": [slice(0, 12)]}``.
        tol: tolerance of the relative residual ||H_bb v - value v|| <= tol |value|; the error of a value is of the
            order of its square.
        start: the ``vector`` of an earlier call. A tenth of each start vector is random all the same, so that another
            eigenvector that has grown beyond the earlier one is found.
        max_products: the largest number of products for each block; those that have not converged say so.
        seed: seed of the random vectors.
        block: number of vectors multiplied at a time.

    By interlacing no value is above the largest eigenvalue of the operator. Their sum bounds that from above where the
    operator is positive semidefinite, and not otherwise. Cost: some 5 to 30 products for each block. Raises
    :class:`InputError` for blocks that overlap, are empty, or lie outside of the vector.
    """
    began = time.perf_counter()
    operator = as_operator(operator)
    places = _places(blocks, operator)
    before, paid = operator.products, operator.spent
    check_memory(_BASIS + 2 + 2 * block, operator)
    runs = _start(operator, places, start, seed)
    with operator.held():
        for _ in range(max_products):
            active = [run for run in runs if not run.finished]
            if not active:
                break
            for some in _batched(active, block):
                columns = torch.zeros((operator.size, len(some)), dtype=operator.dtype, device=operator.device)
                for column, run in enumerate(some):
                    columns[run.places, column] = run.next
                images = operator @ columns
                for column, run in enumerate(some):
                    run.take(images[run.places, column], tol)
    vector = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    for run in runs:
        vector[run.places] = run.vector()
    least = operator.product_error
    return BlockEigenvalues(
        {run.name: run.value for run in runs},
        {run.name: max(run.error, run.rounding, least) for run in runs},
        {run.name: run.residual for run in runs},
        {run.name: run.finished for run in runs},
        vector,
        operator.products - before,
        operator.spent - paid,
        time.perf_counter() - began,
        operator.mode,
    )


def block_masses(vector: Float[Tensor, " P"], blocks: Blocks) -> dict[str, float]:
    """The share of the squared norm of ``vector`` in each block; NaN for the zero vector.

    For an eigenvector of a metric's effective operator these are the shares in its whitened coordinates, M^(1/2) times
    the vector that :func:`top_eigenpairs` returns.
    """
    whole = float(vector.double().square().sum())
    return {
        name: sum(float(vector[own].double().square().sum()) for own in slices) / whole if whole else math.nan
        for name, slices in blocks.items()
    }


class _BlockLanczos:
    """The Lanczos iteration in one block: its basis (m, P_b), and the projection of the block on that."""

    def __init__(self, name: str, places: Int[Tensor, " _"], first: Float[Tensor, " n"]) -> None:
        self.name, self.places = name, places
        size = len(places)
        self._capacity = min(_BASIS, size)
        self._rows = torch.empty((self._capacity + 1, size), dtype=first.dtype, device=first.device)
        self._rows[0] = first
        self._count = 0
        self._projected = torch.zeros((self._capacity, self._capacity), dtype=torch.float64, device="cpu")
        self._coordinates = torch.ones(1, dtype=torch.float64, device="cpu")
        self._couplings = self._coordinates[:0]  # of the next vector to those before it, by the product before
        self._asymmetry = 0.0
        self.finished = False
        self.value = self.residual = self.error = self.rounding = math.nan

    @property
    def next(self) -> Float[Tensor, " n"]:
        """The vector to multiply now."""
        return self._rows[self._count]

    def take(self, product: Float[Tensor, " n"], tol: float) -> None:
        """Take the product with :attr:`next`: a larger basis, and the Ritz value in it."""
        self._count += 1
        count, rows = self._count, self._rows[: self._count]
        coefficients = torch.zeros(count, dtype=torch.float64, device=product.device)
        for _ in range(2):
            found = rows @ product
            product = product - found @ rows
            coefficients += found.double()
        coefficients = coefficients.cpu()
        self._projected[:count, count - 1] = self._projected[count - 1, :count] = coefficients
        self._asymmetry = max(self._asymmetry, float((coefficients[:-1] - self._couplings).norm()))
        values, vectors = torch.linalg.eigh(self._projected[:count, :count])
        outside = float(torch.linalg.vector_norm(product, dtype=torch.float64))
        self._coordinates = vectors[:, -1]
        self.value = float(values[-1])
        self.residual = outside * abs(float(vectors[-1, -1]))
        known = torch.tensor([self.residual], dtype=torch.float64, device="cpu")
        self.error = min(2 * float(value_errors(values[-1:], known, values, None)), self.residual)
        eps = torch.finfo(product.dtype).eps
        self.rounding = max(_ROUNDING * eps * float(values.abs().max()), _ASYMMETRY * self._asymmetry)
        whole = count == self._rows.shape[1] or outside <= self.rounding
        self.finished = whole or self.residual <= max(tol * abs(self.value), self.rounding)
        if not self.finished:
            self._couplings = torch.zeros(count, dtype=torch.float64, device="cpu")
            self._couplings[-1] = outside
            if count == self._capacity:
                self._restart(values, vectors)
            self._rows[self._count] = product / outside

    def vector(self) -> Float[Tensor, " n"]:
        """The unit Ritz vector of the value."""
        found = self._coordinates.to(self._rows) @ self._rows[: len(self._coordinates)]
        return found / torch.linalg.vector_norm(found)

    def _restart(self, values: Float[Tensor, " m"], vectors: Float[Tensor, "m m"]) -> None:
        """Keep the best Ritz vectors; the last product leads out of them as it did before (Wu and Simon 2000)."""
        kept = min(_KEPT, self._capacity - 1)
        self._rows[:kept] = vectors[:, -kept:].T.to(self._rows) @ self._rows[: self._count]
        self._projected.zero_()
        self._projected[range(kept), range(kept)] = values[-kept:]
        self._couplings = self._couplings[-1] * vectors[-1, -kept:]
        self._count, self._coordinates = kept, torch.eye(kept, dtype=torch.float64, device="cpu")[-1]


def _start(
    operator: Operator, places: dict[str, Int[Tensor, " _"]], start: Float[Tensor, " P"] | None, seed: int
) -> list[_BlockLanczos]:
    if start is not None and start.shape != (operator.size,):
        raise InputError(
            f"a start vector of shape {tuple(start.shape)}", expected=f"shape ({operator.size},)", hint="start=None"
        )
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.randn(operator.size, generator=generator, dtype=operator.dtype, device="cpu").to(operator.device)
    runs = []
    for name, own in places.items():
        first = fresh[own] / torch.linalg.vector_norm(fresh[own])
        if start is not None:
            before = start.to(first)[own]
            norm = torch.linalg.vector_norm(before)
            first = _NEW * first + before / norm if float(norm) > 0 else first
        runs.append(_BlockLanczos(name, own, first / torch.linalg.vector_norm(first)))
    return runs


def _places(blocks: Any, operator: Operator) -> dict[str, Int[Tensor, " _"]]:
    """The positions of each block's entries; InputError where the blocks are none."""
    expected = "a dict of names and lists of slices that do not overlap"
    if not isinstance(blocks, Mapping) or not blocks:
        raise InputError(f"blocks given as {blocks!r:.60}", expected=expected)
    found, taken = {}, torch.zeros(operator.size, dtype=torch.bool, device="cpu")
    everything = torch.arange(operator.size, device="cpu")
    for name, slices in blocks.items():
        pieces = [everything[own] for own in slices]
        own = torch.cat(pieces) if pieces else everything[:0]
        if not len(own):
            raise InputError(f"block '{name}' without entries", expected=expected)
        if bool(taken[own].any()) or len(own.unique()) < len(own):
            raise InputError(f"block '{name}' has entries of another block, or some twice", expected=expected)
        if any((piece.stop or 0) > operator.size for piece in slices):
            raise InputError(f"block '{name}' beyond the end of vectors of length {operator.size}", expected=expected)
        taken[own] = True
        found[str(name)] = own.to(operator.device)
    return found


def _units(operator: Operator, first: int, width: int) -> Float[Tensor, "P k"]:
    unit = torch.zeros((operator.size, width), dtype=operator.dtype, device=operator.device)
    unit[first : first + width].fill_diagonal_(1)
    return unit


def _batched(runs: list[_BlockLanczos], width: int) -> list[list[_BlockLanczos]]:
    return [runs[i : i + width] for i in range(0, len(runs), width)]


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _standard_error(numbers: list[float]) -> float:
    count, mean = len(numbers), _mean(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / (count - 3)
    return math.sqrt(variance / count)
