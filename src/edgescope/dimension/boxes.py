"""The box-counting (Minkowski) dimension of a cloud of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError


@dataclass(frozen=True)
class BoxDimension:
    """The slope of ln(occupied boxes) against ln(1 / side), and what it was fitted to.

    ``sides`` (unit of the points) and ``counts`` are of all box sizes; ``fitted`` marks those of the line: counts from
    16 boxes up to a share of the number of points, where boxes are still well filled. ``error`` is half the range of
    the slopes between neighbouring fitted sizes: it shows how far from a straight line they are. ``dimension`` is 0,
    and the error 0, where all points are one.
    """

    dimension: float
    error: float
    sides: Float[np.ndarray, " s"]
    counts: Float[np.ndarray, " s"]
    fitted: np.ndarray
    points: int


def box_dimension(points: Float[np.ndarray, "N d"], *, levels: int = 16, per_box: float = 20.0) -> BoxDimension:
    """The box-counting dimension of N ``points`` in d dimensions, over ``levels`` halvings of the box.

    Boxes that hold fewer than ``per_box`` points on average are left out of the fit: with finitely many points counts
    saturate there and the slope falls to 0. Cost: ``levels`` sorts of N integers. Raises :class:`InputError` for fewer
    than 1,000 points or points that are not finite.
    Source: Falconer, Fractal Geometry, 2014, section 2.1.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[0] < 1000 or cloud.shape[1] < 1:
        raise InputError(f"points of shape {cloud.shape}", expected="at least 1,000 points as rows")
    if not np.isfinite(cloud).all():
        raise InputError("points that are NaN or infinite", expected="finite ones")
    if not (levels >= 2 and levels * cloud.shape[1] <= 62) or not per_box >= 1:
        raise InputError(
            f"levels={levels}, per_box={per_box:g} in {cloud.shape[1]} dimensions",
            expected=f"2 to {62 // cloud.shape[1]} levels and at least 1 point a box",
        )
    origin = cloud.min(axis=0)
    extent = float((cloud.max(axis=0) - origin).max())
    sides = extent / 2.0 ** np.arange(1, levels + 1)
    if extent == 0:
        return BoxDimension(0.0, 0.0, sides, np.ones(levels), np.zeros(levels, dtype=bool), len(cloud))
    finest = np.minimum(((cloud - origin) / extent * 2.0**levels).astype(np.int64), 2**levels - 1)
    counts = np.array([_occupied(finest >> (levels - level), level) for level in range(1, levels + 1)], dtype=float)
    fitted = (counts >= 16) & (counts <= len(cloud) / per_box)
    if fitted.sum() < 3:
        raise InputError(
            f"{int(fitted.sum())} box sizes lie between 16 boxes and {per_box:g} points a box",
            expected="3",
            hint="more points",
        )
    x, y = -np.log(sides[fitted]), np.log(counts[fitted])
    local = np.diff(y) / np.diff(x)
    return BoxDimension(
        dimension=float(np.polyfit(x, y, 1)[0]),
        error=float(local.max() - local.min()) / 2,
        sides=sides,
        counts=counts,
        fitted=fitted,
        points=len(cloud),
    )


def _occupied(cells: np.ndarray, level: int) -> int:
    """How many different cells there are, coordinates below 2^level packed into one integer."""
    key = cells[:, 0].copy()
    for column in cells.T[1:]:
        key = (key << level) | column
    return len(np.unique(key))
