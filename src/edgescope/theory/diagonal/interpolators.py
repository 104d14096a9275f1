"""Extreme points of the set of interpolators, beta >= 0 with X beta = y: least norm, least sharpness."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.theory.arguments import Array

_TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
_GAP = 1e-12  # relative gap to the least top eigenvalue at which the barrier method stops
_GROWTH = 8.0  # factor by which the weight grows from one centre to the next


def least_sum(X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    """The interpolator with the least sum of entries; mass is shared evenly among equal inputs of one sample."""
    if len(y) == 1:
        return _on_vertex(X[0], float(y[0]), largest=True)
    beta = _linear_program(np.ones(X.shape[1]), X, y)
    kept = np.flatnonzero(beta > 1e-9 * beta.max(initial=0))
    if 0 < len(kept) <= len(y):  # a vertex: its entries to the last digit
        exact = np.linalg.lstsq(X[:, kept], y, rcond=None)[0]
        if np.all(exact > 0) and np.allclose(X[:, kept] @ exact, y, rtol=1e-12, atol=1e-12):
            beta = np.zeros_like(beta)
            beta[kept] = exact
    return beta


def least_top_eigenvalue(X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    """The interpolator with the least top eigenvalue of X diag(beta) X^T: a barrier method on the semidefinite program.

    Minimise t with t I - X diag(beta) X^T positive semidefinite, beta >= 0, X beta = y. Of several minimisers the
    analytic centre of their set.
    """
    if len(y) == 1:
        return _on_vertex(X[0], float(y[0]), largest=False)
    beta = np.zeros(X.shape[1])
    start = _inside(X, y)
    used = (start > 0) & np.any(X != 0, axis=0)
    if np.any(used):
        beta[used] = _barrier(X[:, used], start[used])
    return beta


def _on_vertex(x: Float[Array, " d"], y: float, largest: bool) -> Float[Array, " d"]:
    """All mass on the largest, or smallest, of the inputs that have the sign of y."""
    beta = np.zeros_like(x)
    if y != 0:
        sizes = np.where(x * np.sign(y) > 0, np.abs(x), -np.inf if largest else np.inf)
        best = sizes.max() if largest else sizes.min()
        if not np.isfinite(best):
            raise _no_interpolator()
        at = sizes == best
        beta[at] = abs(y) / best / at.sum()
    return beta


def _linear_program(cost: Array, X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    unit, height = np.abs(X).max(), np.abs(y).max()
    if height == 0:
        return np.zeros(X.shape[1])
    if unit == 0:
        raise _no_interpolator()
    found = scipy.optimize.linprog(cost, A_eq=X / unit, b_eq=y / height, method="highs-ds", options=_TIGHT)
    if found.x is None:
        raise _no_interpolator()
    return np.maximum(found.x, 0) * height / unit


def _inside(X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    """An interpolator whose entries are positive wherever those of any interpolator are.

    In X b = k y with k >= 1, all entries of b that can be positive can also be 1 or more; their number is maximised.
    """
    n, d = X.shape
    unit, height = max(np.abs(X).max(), 1e-300), max(np.abs(y).max(), 1e-300)
    equal = np.hstack([X / unit, -y[:, None] / height, np.zeros((n, d))])
    below = np.hstack([-np.eye(d), np.zeros((d, 1)), np.eye(d)])  # z <= b
    bounds = [(0, None)] * d + [(1, None)] + [(0, 1)] * d
    cost = np.r_[np.zeros(d + 1), -np.ones(d)]
    found = scipy.optimize.linprog(cost, below, np.zeros(d), equal, np.zeros(n), bounds, method="highs", options=_TIGHT)
    if found.x is None:
        raise _no_interpolator()
    b, k, z = found.x[:d], found.x[d], found.x[d + 1 :]
    return np.where(z > 0.5, b / k * height / unit, 0.0)


def _barrier(X: Float[Array, "n d"], start: Float[Array, " d"]) -> Float[Array, " d"]:
    """Newton's method on weight t - log det(t I - X diag(beta) X^T) - sum log beta, for growing weight.

    A centre is within (n + d) / weight of the optimum. Steps stay in the null space of X, so that X beta = y remains.
    """
    unit = np.abs(X).max()
    X, height = X / unit, start.max()
    beta, n, d = start / height, *X.shape
    top = float(np.linalg.eigvalsh((X * beta) @ X.T)[-1])
    free = scipy.linalg.null_space(X)
    if free.shape[1] == 0:
        return start
    t, weight = 2 * top, (n + d) / top
    while True:
        for _ in range(60):
            inverse = np.linalg.inv(t * np.eye(n) - (X * beta) @ X.T)
            inner = X.T @ inverse @ X
            gradient = np.r_[free.T @ (np.diag(inner) - 1 / beta), weight - np.trace(inverse)]
            squares = free.T @ (inner**2 + np.diag(beta**-2.0)) @ free
            cross = -free.T @ np.einsum("ij,ij->j", X, inverse @ inverse @ X)
            hessian = np.block([[squares, cross[:, None]], [cross[None, :], np.sum(inverse**2)]])
            scale = 1 / np.sqrt(np.diag(hessian))
            step = -scale * np.linalg.lstsq(hessian * np.outer(scale, scale), scale * gradient, rcond=None)[0]
            move, rise = free @ step[:-1], step[-1]
            decrement = float(-gradient @ step)
            length = min(1.0, 1 / (1 + max(decrement, 0) ** 0.5)) if decrement > 0.1 else 1.0
            while np.any(beta + length * move <= 0) or not _dominates(t + length * rise, X, beta + length * move):
                length /= 2
            beta, t = beta + length * move, t + length * rise
            if decrement < 1e-8:
                break
        if (n + d) / weight < _GAP * t:
            return beta * height
        weight *= _GROWTH


def _dominates(t: float, X: Float[Array, "n d"], beta: Float[Array, " d"]) -> bool:
    return bool(np.linalg.eigvalsh((X * beta) @ X.T)[-1] < t)


def _no_interpolator() -> InputError:
    return InputError(
        "no beta >= 0 has <beta, x> = y on all samples, and so no weights w with beta = w*w fit them",
        expected="targets within reach of a diagonal network",
    )
