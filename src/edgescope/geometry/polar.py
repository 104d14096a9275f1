"""Polar factors of matrices: the orthogonal factor U V^T, exactly or by an iteration of matrix products."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.scaling import lengths_of

Method = Literal["svd", "newton-schulz", "polar-express"]
Quintic = tuple[float, float, float]

JORDAN: Quintic = (3.4445, -4.7750, 2.0315)
MAX_STEPS = 99  # of an iteration, as in torch.optim.Muon; it converges in far fewer
SMALLEST = 1e-3  # singular values, as a share of the Frobenius norm, down to which an iteration states its error


def polar_factor(matrices: Float[Tensor, "*k m n"], method: Method = "svd", steps: int = 5) -> Float[Tensor, "*k m n"]:
    """U V^T of each matrix U diag(s) V^T, over the singular values above max(m, n) eps s_max; 0 for a zero matrix.

    With ``"newton-schulz"`` (quintic of Jordan et al. 2024, as Muon uses it) and ``"polar-express"`` (the best quintic
    for each step, Amsel et al. 2025, arXiv 2505.16932) the singular values come out between a ``share`` and 1 instead
    of at 1, the share stated by :func:`polar_share`: the result lies in the unit ball of the operator norm in every
    case. Cost: a singular value decomposition, or ``steps`` times three matrix products.
    """
    finite = torch.isfinite(matrices).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    sound = torch.where(finite, matrices, 0.0)
    if min(matrices.shape[-2:]) == 1:
        factor = sound / _or_one(lengths_of(sound, dim=(-2, -1), keepdim=True))
    elif method == "svd":
        wide = matrices.shape[-2] < matrices.shape[-1]
        U, s, Vh = torch.linalg.svd(sound.mT if wide else sound, full_matrices=False)  # wide ones take twice as long
        cut = max(matrices.shape[-2:]) * torch.finfo(s.dtype).eps * s[..., :1]
        factor = (U * (s > cut).to(s.dtype)[..., None, :]) @ Vh
        factor = factor.mT if wide else factor
    else:
        scaled = sound / _or_one(lengths_of(sound, dim=(-2, -1), keepdim=True))
        factor = iterate(scaled, quintics(method, steps)) / _range(method, steps)[1]
    return torch.where(finite, factor, torch.nan)


def singular_values(matrices: Float[Tensor, "*k m n"]) -> Float[Tensor, "*k r"]:
    """The r = min(m, n) singular values of each matrix, the largest first; not finite where the matrix is not."""
    if min(matrices.shape[-2:]) == 1:
        return lengths_of(matrices, dim=(-2, -1))[..., None]
    finite = torch.isfinite(matrices).all(dim=-1).all(dim=-1)[..., None]
    sound = torch.where(finite[..., None], matrices, 0.0)
    wide = matrices.shape[-2] < matrices.shape[-1]
    return torch.where(finite, torch.linalg.svdvals(sound.mT if wide else sound), torch.nan)


def iterate(matrices: Float[Tensor, "*k m n"], polynomials: tuple[Quintic, ...]) -> Float[Tensor, "*k m n"]:
    """Singular values s of each matrix replaced by p(s), p the odd quintics a s + b s^3 + c s^5 one after the other."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    for a, b, c in polynomials:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def polar_share(method: Method, steps: int, smallest: float = SMALLEST) -> float:
    """The least singular value that an iteration makes of one that is at least ``smallest`` of the Frobenius norm.

    The steepest direction attains at least this share of what such singular values add to the dual norm.
    """
    return 1.0 if method == "svd" else _range(method, steps, smallest)[0]


def quintics(method: Method, steps: int) -> tuple[Quintic, ...]:
    """The polynomials of an iteration."""
    return (JORDAN,) * steps if method == "newton-schulz" else _best_quintics(steps)


@cache
def _range(method: Method, steps: int, smallest: float = SMALLEST) -> tuple[float, float]:
    """Least (over its largest) and largest value of the iteration, on [smallest, 1] and on [0, 1]."""
    grid = np.geomspace(min(smallest, SMALLEST) * 1e-3, 1.0, 200_001)
    values = grid
    for a, b, c in quintics(method, steps):
        values = a * values + b * values**3 + c * values**5
    highest = float(values.max()) * (1 + 1e-6)  # what may lie between the points of the grid
    return float(values[grid >= smallest].min()) / highest * (1 - 1e-6), highest


@cache
def _best_quintics(steps: int) -> tuple[Quintic, ...]:
    """For each step the odd quintic nearest to 1, in the largest error, on the interval that the last step left."""
    low, high, found = SMALLEST, 1.0, []
    for _ in range(steps):
        quintic, error = _nearest_to_one(low, high)
        found.append(quintic)
        low, high = 1 - error, 1 + error
    return tuple(found)


def _nearest_to_one(low: float, high: float) -> tuple[Quintic, float]:
    """Remez exchange: the errors at low, two inner extrema and high are equal and alternate in sign."""
    if high - low < 1e-4:  # the limit, where the exchange has lost its digits; its error is of third order
        return (1.875, -1.25, 0.375), 2.5 * max(high - 1, 1 - low) ** 3
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    for _ in range(100):
        x = np.array([low, *inner, high])
        a, b, c, error = np.linalg.solve(np.stack([x, x**3, x**5, [1, -1, 1, -1]], axis=1), np.ones(4))
        before, inner = inner, np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
        if np.allclose(inner, before, rtol=1e-13, atol=0):
            break
    return (float(a), float(b), float(c)), abs(float(error))


def _or_one(norm: Tensor) -> Tensor:
    return torch.where(norm == 0, 1.0, norm)
