"""Where a curve over learning rates bends."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_PLACES = 801  # of the bend that are tried, evenly on the logarithmic axis


def kink(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """The x at which a constant that goes over into a power of x fits ``log y`` best, least squares; NaN without one.

    ``x`` and ``y`` are positive; ``x`` in rising order, at least four of them. NaN too where no bend explains half of
    what a constant leaves.
    """
    if len(x) < 4 or not (np.all(x > 0) and np.all(y > 0)):
        return float("nan")
    across, along = np.log(x), np.log(y)
    places = np.linspace(across[0], across[-1], _PLACES)[1:-1]
    rest = [_residual(np.maximum(across - place, 0.0), along) for place in places]
    best = int(np.argmin(rest))
    spread = float(np.square(along - along.mean()).sum())
    if rest[best] > 0.5 * spread or spread <= 1e-20 * float(1 + np.square(along).sum()):  # no bend, or rounding
        return float("nan")
    return float(np.exp(places[best]))


def _residual(bent: Float[np.ndarray, " n"], along: Float[np.ndarray, " n"]) -> float:
    design = np.stack([np.ones_like(bent), bent], 1)
    return float(np.square(along - design @ np.linalg.lstsq(design, along, rcond=None)[0]).sum())


def one_step(ratios: Float[np.ndarray, " n"]) -> float:
    """The factor between the two grid points on either side of 1: what a place can be told to; inf without both."""
    below, above = ratios[ratios <= 1], ratios[ratios >= 1]
    if not below.size or not above.size:
        return float("inf")
    if below.max() == above.min():  # 1 itself is on the grid: the wider of the two steps beside it
        outside = [ratios[ratios < 1].max(initial=0), ratios[ratios > 1].min(initial=np.inf)]
        return float(max(1 / outside[0] if outside[0] else np.inf, outside[1]))
    return float(above.min() / below.max())
