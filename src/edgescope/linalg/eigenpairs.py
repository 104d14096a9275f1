"""The eigenpairs at the ends of an operator's spectrum, each with its residual and a converged flag that was earned."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.basis import Basis
from edgescope.linalg.metric import Metric
from edgescope.linalg.operator import Operator, as_operator
from edgescope.linalg.search import Found, Progress, Search, Which

_SEED_DROP = 1e-3  # a seed direction shorter than this beside the others costs a product and brings nothing


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs in descending order of value; for ``which="both"`` the k largest, then the k smallest.

    ``vectors`` are columns of unit norm in the operator's precision (M-orthonormal where there is a metric M).
    ``residuals`` are the norms of H v - value v (in the whitened coordinates where there is a metric); a symmetric
    operator has an eigenvalue within that distance of the value. ``error`` is the estimated error of each value,
    residual^2 / gap, never more than the residual nor less than rounding, 10 eps ||H||. ``products`` counts operator
    products.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "P k"]
    residuals: Float[Tensor, " k"]
    error: Float[Tensor, " k"]
    converged: Bool[Tensor, " k"]
    products: int
    cost: Cost
    seconds: float


def top_eigenpairs(
    thing: Any,
    k: int = 1,
    *,
    which: Which = "largest",
    tol: float = 1e-3,
    start: Eigenpairs | Float[Tensor, "P j"] | None = None,
    metric: Metric | None = None,
    block: int = 1,
    max_products: int | None = None,
    basis: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The ``k`` algebraically largest or smallest eigenpairs of ``thing``, or k of each, by a block Krylov method.

    ``thing`` is an Objective, an :class:`Operator` or a dense symmetric matrix. Lanczos with full reorthogonalisation
    (twice, by matrix products) and thick restart; given a ``start`` (earlier Eigenpairs, or vectors (P, j)), a
    Rayleigh-Ritz step on these, expanded by the residuals of the worst pairs. ``block`` vectors are multiplied at a
    time.

    A pair is converged when ||H v - value v|| <= tol * max(|value|, eps^(2/3) ||H||), or at the rounding of the
    operator's precision, 10 eps ||H||. Once all are, a tenth of the products spent so far (at least 4) goes into a
    fresh random direction orthogonal to all that was seen, which uncovers further copies of a multiple eigenvalue and
    seeds that lay in the wrong subspace; what is found sends the search on. This makes a miss unlikely, not impossible.

    With a ``metric`` M the pairs are those of M^(-1) H: values of M^(-1/2) H M^(-1/2), vectors v with H v = value M v,
    orthonormal in M. ``start`` takes such vectors back.

    ``max_products`` (default 30 times the basis) bounds the cost: what has not converged by then says so in
    ``converged``. ``basis`` is the number of vectors held, default max(2 k + 20, 60), twice (the vectors and their
    products), in the operator's precision. ``progress`` is called with the products so far and the worst relative
    residual. Raises :class:`InputError` for arguments that cannot be used and :class:`MemoryBudgetError` when the basis
    does not fit in memory.

    Cost: products only; for the leading pair of a network's Hessian some 20 to 50 cold, 4 to 10 from good seeds.
    Sources: Parlett, The Symmetric Eigenvalue Problem, 1980; Wu and Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602.
    """
    began = time.perf_counter()
    operator = whitened(as_operator(thing), metric)
    wanted = check_request(k, which, tol, operator.size)
    if block < 1:
        raise InputError(f"a block of {block} vectors", expected="at least 1")
    if max_products is not None and max_products < wanted:
        raise InputError(f"max_products={max_products} for {wanted} eigenpairs", expected=f"at least {wanted}")
    seeds = None if start is None else seed_rows(start, operator, metric)
    least = wanted + 2 * block
    if basis is not None and basis < min(least, operator.size):
        raise InputError(f"a basis of {basis} vectors for {wanted} eigenpairs", expected=f"at least {least}")
    capacity = basis or max(2 * wanted + 20, 60, least + (0 if seeds is None else seeds.shape[0]))
    if seeds is not None:
        seeds = seeds[: max_products if basis is None else min(basis, max_products or basis)]
    space = Basis(operator, capacity, block)
    search = Search(
        space,
        which,
        k,
        tolerance=tol,
        generator=torch.Generator().manual_seed(seed),
        block=block,
        budget=30 * capacity if max_products is None else max_products,
        progress=progress,
    )
    search.sow(seeds, _SEED_DROP)
    found = search.run(audit=True)
    return as_eigenpairs(found, space, metric, time.perf_counter() - began)


def whitened(operator: Operator, metric: Metric | None) -> Operator:
    """M^(-1/2) H M^(-1/2), or H itself where there is no metric."""
    if metric is None:
        return operator
    if metric.size != operator.size:
        raise InputError(f"a metric of size {metric.size} for an operator of size {operator.size}", expected="one size")
    return Operator(
        operator.size,
        lambda block: metric.inverse_root(operator @ metric.inverse_root(block)),
        dtype=operator.dtype,
        device=operator.device,
    )


def check_request(k: int, which: str, tol: float, size: int | None = None) -> int:
    """The number of eigenpairs asked for (of an operator of this size), or an InputError."""
    if which not in get_args(Which):
        raise InputError(f"which='{which}'", expected="'largest', 'smallest' or 'both'")
    wanted = 2 * k if which == "both" else k
    if k < 1:
        raise InputError(f"k={k} eigenpairs", expected="at least 1")
    if size is not None and wanted > size:
        raise InputError(f"{wanted} eigenpairs of an operator of size {size}", expected=f"at most {size}")
    if not 0 < tol < 1:
        raise InputError(f"tol={tol}", expected="a relative error between 0 and 1, such as 1e-3")
    return wanted


def seed_rows(start: Eigenpairs | Tensor, operator: Operator, metric: Metric | None) -> Float[Tensor, "j P"]:
    """Start vectors as unit rows in the coordinates that the search works in."""
    vectors = start.vectors if isinstance(start, Eigenpairs) else start
    vectors = vectors[:, None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or vectors.shape[0] != operator.size:
        raise InputError(
            f"start vectors of shape {tuple(vectors.shape)}", expected=f"shape ({operator.size}, j)", hint="start=None"
        )
    if not bool(torch.isfinite(vectors).all()):
        raise InputError("start vectors with entries that are NaN or infinite", expected="finite ones")
    vectors = vectors.to(device=operator.device, dtype=operator.dtype)
    rows = (vectors if metric is None else metric.root(vectors)).T
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


def as_eigenpairs(found: Found, basis: Basis, metric: Metric | None, seconds: float) -> Eigenpairs:
    """What a search found, with the vectors in the parameters' own coordinates."""
    vectors = basis.combine(found.coordinates).T
    return Eigenpairs(
        values=found.values,
        vectors=vectors if metric is None else metric.inverse_root(vectors),
        residuals=found.residuals,
        error=found.errors,
        converged=found.settled,
        products=found.products,
        cost=Cost(products=found.products),
        seconds=seconds,
    )
