"""Eigenpairs at the ends of an operator's spectrum, each with its residual and an audited convergence flag."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.allocator import return_freed_memory
from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.linalg.basis import Basis
from edgescope.linalg.capacity import Capacity, best_capacity, fitting_capacity
from edgescope.linalg.metric import Metric, check_metric
from edgescope.linalg.operator import Operator, OperatorLike, as_operator
from edgescope.linalg.search import Progress, Search, SearchResult, Which
from edgescope.notebooks import in_notebooks
from edgescope.options import check_function, checked, integer, optional, real

_PRODUCTS = 30  # the largest number of products by default, for each of max(2 k + 20, 60) vectors
_SEED_DROP = 1e-3  # a start direction with a smaller component of its own is not worth its product


@in_notebooks
@dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs in descending order of value; for ``which="both"`` the k largest, then the k smallest.

    ``vectors`` are columns of unit norm in the operator's precision (M-orthonormal where there is a metric M).
    ``residuals`` are the norms of H v - value v (in whitened coordinates where there is a metric); a symmetric operator
    has an eigenvalue within that distance of the value. ``error`` is an estimated bound on the error of each value:
    residual^2 / gap, at most the residual, and at least the rounding error, which is 10 eps ||H|| or, where larger, six
    times the component of the residual that is due to asymmetry of the products. Over 200 small networks 99% of the
    true values were within it, most of them by far. All three have the unit of the eigenvalues.

    ``converged`` says whether each pair met the tolerance: that of its residual where ``criterion`` is "residual"
    (:func:`top_eigenpairs`), that of the estimated error of its value where it is "value" (:class:`EigenTracker`).
    ``products`` counts operator products. ``mode`` is that of the operator. ``note`` says why the search took more
    products than it would with more memory; None where it did not.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "P k"]
    residuals: Float[Tensor, " k"]
    error: Float[Tensor, " k"]
    converged: Bool[Tensor, " k"]
    products: int
    cost: Cost
    seconds: float
    mode: str | None = None
    note: str | None = None
    criterion: Literal["residual", "value"] = "residual"


@checked(
    k=integer(1),
    tol=real(above=0, below=1),
    block=integer(1),
    max_products=optional(integer(1)),
    basis=optional(integer(1)),
    metric=check_metric,
    progress=optional(check_function),
)
@in_plain_arithmetic
def top_eigenpairs(
    operator: OperatorLike,
    k: int = 1,
    *,
    which: Which = "largest",
    tol: float = 1e-3,
    start: Eigenpairs | Float[Tensor, P * j] | Float[np.ndarray, P * j] | None = None,
    metric: Metric | None = None,
    block: int = 1,
    max_products: int | None = None,
    basis: int | None = None,
    basis_device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The ``k`` algebraically largest or smallest eigenpairs of ``operator``, or k of each, by a block Krylov method.

    Lanczos iteration with full reorthogonalisation (twice, by matrix products) and thick restart; with a ``start``, a
    Rayleigh-Ritz step on the start vectors, expanded by the residuals of the worst pairs.

    A pair has converged when ||H v - value v|| <= tol * max(|value|, eps^(2/3) ||H||), or is within rounding of the
    operator's precision, 10 eps ||H||. Once all have, an audit looks for missed eigenvalues: a Lanczos run from a
    random direction orthogonal to the basis, for a tenth of the products spent so far (at least 4). It uncovers further
    copies of a multiple eigenvalue, and start vectors in the wrong subspace; if it finds any, the search continues.
    This makes a miss unlikely, not impossible. An operator with up to 16 rows is decomposed, for as many products,
    where ``max_products`` allows it.

    Args:
        operator: an Objective, an :class:`Operator` or a dense symmetric matrix.
        k: number of eigenpairs, at each end for ``which="both"``.
        which: "largest", "smallest" or "both", in algebraic order.
        tol: tolerance of the relative **residual**, as above. (That of an :class:`EigenTracker` is of the value.)
        start: earlier Eigenpairs, or vectors (P, j).
        metric: for a metric M the pairs are those of M^(-1) H: the values of M^(-1/2) H M^(-1/2), with vectors for
            which H v = value M v, orthonormal in M. ``start`` accepts such vectors.
        block: number of vectors multiplied at a time.
        max_products: the largest number of products, by default 30 max(2 k + 20, 60); pairs that have not converged
            by then are returned as such.
        basis: number of vectors held, in the operator's precision: by default 12 for one pair, max(20, 2 k + 8) for
            several, fewer where they do not fit in memory (see ``note`` of the result), and 12 beyond those of
            ``start``. More do not pay: a search that held all of its vectors took 1 to 3% fewer products.
        basis_device: where these vectors are held: "cpu" beside an accelerator whose memory they do not fit in, with
            80% of what is free there. Each product copies one of them to the accelerator and back, orthogonalisation
            runs on that device, and ``vectors`` are returned there. By default that of the operator.
        seed: seed of the random start vectors.
        progress: is called with the number of products so far and the largest relative residual.

    Raises :class:`InputError` for arguments that cannot be used and for eigenvalues that overflow the operator's
    precision, :class:`MemoryBudgetError` where not even a basis of two vectors beyond the wanted ones fits in memory.

    Cost: products only. The leading pair of a network's Hessian takes about 20 to 50 without ``start`` and 4 to 10 from
    good start vectors.
    Sources: Parlett, The Symmetric Eigenvalue Problem, 1980; Wu and Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602.
    """
    began = time.perf_counter()
    operator = whitened(as_operator(operator), metric)
    if basis_device is not None:
        if metric is not None:
            raise InputError("basis_device= with a metric", expected="one of the two")
        operator = operator.held_on(basis_device)
    paid = operator.spent
    wanted = check_request(k, which, operator.size)
    if max_products is not None and max_products < wanted:
        raise InputError(f"max_products={max_products} for {wanted} eigenpairs", expected=f"at least {wanted}")
    seeds = None if start is None else seed_rows(start, operator, metric)
    least = wanted + 2 * block
    if basis is not None and basis < min(least, operator.size):
        raise InputError(f"a basis of {basis} vectors for {wanted} eigenpairs", expected=f"at least {least}")
    if seeds is not None:
        seeds = seeds[: max_products if basis is None else min(basis, max_products or basis)]
    started = 0 if seeds is None else seeds.shape[0]
    width = max(block, started) + 1
    with operator.held():
        if basis is None:
            capacity = fitting_capacity(operator, best_capacity(wanted, block, started), wanted, block, width)
        else:
            capacity = Capacity(basis, basis)
        space = Basis(operator, capacity.rows, width)
        search = Search(
            space,
            which,
            k,
            residual_tol=tol,
            generator=torch.Generator().manual_seed(seed),
            block=block,
            budget=_PRODUCTS * max(2 * wanted + 20, 60) if max_products is None else max_products,
            progress=progress,
        )
        search.initialise(seeds, _SEED_DROP)
        result = search.run(audit=True)
    cost, seconds = operator.spent - paid, time.perf_counter() - began
    if operator.device.type == "cpu":  # what products have freed, before there are vectors of the result
        return_freed_memory(operator.size * operator.dtype.itemsize)
    vectors = space.combine(result.coordinates).T
    vectors = vectors if metric is None else metric.inverse_root(vectors)
    return as_eigenpairs(result, vectors, operator.mode, cost, seconds, "residual", capacity.note)


def whitened(operator: Operator, metric: Metric | None) -> Operator:
    """M^(-1/2) H M^(-1/2), or H itself where there is no metric."""
    if metric is None:
        return operator
    check_size(metric, operator.size)
    return operator.derived(lambda block: metric.inverse_root(operator @ metric.inverse_root(block)))


def check_size(metric: Metric, size: int) -> None:
    """Raise :class:`InputError` where the size of a metric is not that of the operator."""
    if metric.size != size:
        raise InputError(f"a metric of size {metric.size} for an operator of size {size}", expected="equal sizes")


def check_request(k: int, which: str, size: int | None = None) -> int:
    """The number of eigenpairs requested; :class:`InputError` where there are not so many in an operator this size."""
    if which not in get_args(Which):
        raise InputError(f"which='{which}'", expected="'largest', 'smallest' or 'both'")
    wanted = 2 * k if which == "both" else k
    if size is not None and wanted > size:
        raise InputError(f"{wanted} eigenpairs of an operator of size {size}", expected=f"at most {size}")
    return wanted


def seed_rows(
    start: Eigenpairs | Tensor | np.ndarray, operator: Operator, metric: Metric | None, *, finite: bool = False
) -> Float[Tensor, "j P"]:
    """Start vectors as unit rows, in the whitened coordinates where there is a metric.

    ``finite``: whether their entries are is not looked at, as :meth:`Basis.append` does it.
    """
    wanted = f"earlier Eigenpairs, or vectors of shape ({operator.size}, j)"
    vectors = (
        start.vectors if isinstance(start, Eigenpairs) else as_tensor("start vectors", start, wanted, "start=None")
    )
    vectors = vectors[:, None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or vectors.shape[0] != operator.size or not vectors.shape[1]:
        raise InputError(
            f"start vectors of shape {tuple(vectors.shape)}", expected=f"shape ({operator.size}, j)", hint="start=None"
        )
    if not finite and not bool(torch.isfinite(vectors).all()):
        raise InputError("start vectors with entries that are NaN or infinite", expected="finite entries")
    vectors = vectors.to(device=operator.device, dtype=operator.dtype)
    rows = (vectors if metric is None else metric.root(vectors)).T
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


def as_eigenpairs(
    result: SearchResult,
    vectors: Float[Tensor, "P k"],
    mode: str | None,
    cost: Cost,
    seconds: float,
    criterion: Literal["residual", "value"],
    note: str | None = None,
) -> Eigenpairs:
    """The result of a search, with ``vectors`` in the coordinates of the parameters (not whitened)."""
    return Eigenpairs(
        values=result.values,
        vectors=vectors,
        residuals=result.residuals,
        error=result.errors,
        converged=result.converged,
        products=result.products,
        cost=cost,
        seconds=seconds,
        mode=mode,
        note=note,
        criterion=criterion,
    )
