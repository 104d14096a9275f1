"""The box-counting (Minkowski) dimension of a cloud of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks
from edgescope.options import checked, integer, real, type_of


@in_notebooks
@dataclass(frozen=True)
class BoxDimension:
    """The slope of ln(occupied boxes) against ln(1 / side), with the data of the fit.

    ``sides`` (in the unit of the points) and ``counts`` are those of all box sizes. ``fitted`` is True for the sizes
    that the line was fitted to: counts of at least 16 boxes, up to a fraction of the number of points for which boxes
    are still well filled. ``error`` is half the range of the slopes between neighbouring fitted sizes. It measures the
    deviation from a straight line; it is neither a standard error nor a bound on the bias of finitely many points.
    Dimension and error are 0 where all points coincide.
    """

    dimension: float
    error: float
    sides: Float[np.ndarray, " s"]
    counts: Float[np.ndarray, " s"]
    fitted: np.ndarray
    points: int


@checked(levels=integer(2), per_box=real(least=1))
def box_dimension(points: Float[np.ndarray, "N d"], *, levels: int = 16, per_box: float = 20.0) -> BoxDimension:
    """The box-counting dimension of N ``points`` in d dimensions, over ``levels`` halvings of the box.

    Box sizes with fewer than ``per_box`` points in a box on average are not fitted, since the counts of finitely many
    points saturate there and the slope falls to 0. Cost: ``levels`` sorts of N integers. Raises :class:`InputError` for
    fewer than 1,000 points, and for points that are not finite.
    Source: Falconer, Fractal Geometry, 2014, section 2.1.
    """
    try:
        cloud = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"points given as {type_of(points)}", expected="at least 1,000 points as rows") from error
    if cloud.ndim != 2 or cloud.shape[0] < 1000 or cloud.shape[1] < 1:
        raise InputError(f"points of shape {cloud.shape}", expected="at least 1,000 points as rows")
    if not np.isfinite(cloud).all():
        raise InputError("points that are NaN or infinite", expected="finite ones")
    if levels * cloud.shape[1] > 62:
        raise InputError(f"{levels} levels in {cloud.shape[1]} dimensions", expected=f"2 to {62 // cloud.shape[1]}")
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
    """The number of different cells; their coordinates, below 2^level, are packed into one integer."""
    key = cells[:, 0].copy()
    for column in cells.T[1:]:
        key = (key << level) | column
    return len(np.unique(key))
