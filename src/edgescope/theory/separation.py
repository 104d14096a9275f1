"""Half-spaces that contain one point of a set and no other, as a memorizing ReLU neuron needs."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

_SMALLEST = 1e-7
"""A margin below this share of the size of the points counts as none: the accuracy of the linear programs."""


def separating_affine(x: Float[np.ndarray, "n d"], i: int) -> tuple[Float[np.ndarray, " d"], float] | None:
    """(v, t) with v.x_i + t = 1 and v.x_j + t <= -1 for all others; None where x_i lies in the hull of the others.

    The point itself is the direction where that separates, as it does on every sphere around the origin; otherwise the
    direction of largest margin in a box, by linear programming. Of points in {-1, 1}^d all other corners lie below as
    well, the missing ones too. Cost: one product with ``x``, or one small program.
    """
    direction = x[i]
    margin = _margin(x, i, direction)
    if bool((np.abs(x) == 1).all()):
        margin = min(margin, 2.0)  # x_i.x is d - 2 at the corners next to x_i, and less at all others
    if margin <= _SMALLEST * float(direction @ direction):
        scale = float(np.abs(x).max()) or 1.0
        apart = np.delete(x[i] - x, i, axis=0) / scale
        direction = _widest(-apart)
        if direction is None:
            return None
        margin = _margin(x, i, direction)
    half = margin / 2
    return direction / half, 1.0 - float(direction @ x[i]) / half


def separating_linear(x: Float[np.ndarray, "n d"], i: int) -> Float[np.ndarray, " d"] | None:
    """v with v.x_i = 1 and v.x_j < 0 for all others; None where no such half-space has the origin on its border."""
    scale = float(np.linalg.norm(x[i]))
    if scale == 0:
        return None
    direction = _widest(np.delete(x, i, axis=0) / scale, x[i] / scale)
    return None if direction is None else direction / float(direction @ x[i])


def _margin(x: Float[np.ndarray, "n d"], i: int, direction: Float[np.ndarray, " d"]) -> float:
    heights = x @ direction
    return float(heights[i] - np.delete(heights, i).max(initial=-np.inf))


def _widest(
    below: Float[np.ndarray, "m d"], fixed: Float[np.ndarray, " d"] | None = None
) -> Float[np.ndarray, " d"] | None:
    """v with ``below @ v <= -tau`` for the largest tau; None where that is 0.

    With ``fixed @ v = 1`` and tau <= 1 if there is such a row, in the box |v| <= 1 otherwise.
    """
    rows, size = below.shape
    found = scipy.optimize.linprog(
        np.concatenate([np.zeros(size), [-1.0]]),
        A_ub=np.hstack([below, np.ones((rows, 1))]),
        b_ub=np.zeros(rows),
        A_eq=None if fixed is None else np.append(fixed, 0.0)[None],
        b_eq=None if fixed is None else np.ones(1),
        bounds=[(-1.0, 1.0) if fixed is None else (None, None)] * size + [(None, 1.0)],
        method="highs",
    )
    if found.status != 0:
        return None
    direction = np.asarray(found.x[:-1])
    return direction if float((below @ direction).max(initial=-1.0)) < -_SMALLEST else None
