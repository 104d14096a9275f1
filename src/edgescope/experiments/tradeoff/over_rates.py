"""Statistics of a curve over learning rates, with intervals: straight lines, ranks, and where it bends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy
from jaxtyping import Float, Int

from edgescope.claims import Measured, Open
from edgescope.errors import InputError
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.intervals import Bootstrap
from edgescope.statistics.kendall import kendall

Values = Float[np.ndarray, " n"]

FEW = 4
"""Rates below which nothing is said about the shape of a curve."""

RATES = "learning rates"
TOO_FEW = Open(f"fewer than {FEW} learning rates reached the threshold", "more learning rates")

_PLACES = 801  # of the bend that are tried, evenly on the logarithmic axis


def with_rows(found: Estimate | Open, beside: Mapping[str, float | Estimate | Open]) -> Measured | Open:
    """An estimate with those beside it that are known."""
    if isinstance(found, Open):
        return found
    return Measured(found, {title: one for title, one in beside.items() if not isinstance(one, Open)})


def slope(x: Values, y: Values) -> Estimate | Open:
    """The slope of the straight line through points, least squares, with the interval of Student's t."""
    if missing := _no_line(x, y):
        return missing
    found = scipy.stats.linregress(x, y)
    reach = float(scipy.stats.t.ppf(0.975, len(x) - 2) * found.stderr)
    return Estimate(found.slope, found.slope - reach, found.slope + reach, len(x), RATES)


def straightness(x: Values, y: Values) -> Estimate | Open:
    """R² of the straight line through points, with the interval that Fisher's transformation gives the correlation."""
    if missing := _no_line(x, y):
        return missing
    found = scipy.stats.pearsonr(x, y)
    ends = found.confidence_interval(0.95)
    low = 0.0 if ends.low < 0 < ends.high else min(ends.low**2, ends.high**2)
    return Estimate(found.statistic**2, low, max(ends.low**2, ends.high**2), len(x), RATES)


def slope_ratio(x: Values, y: Values, whole: Values) -> Estimate | Open:
    """The slope of ``y`` over that of ``whole``, with the interval of the bootstrap over points."""
    if missing := _no_line(x, whole):
        return missing

    def ratio(places: Int[np.ndarray, "B n"]) -> Float[np.ndarray, " B"]:
        across = x[places] - x[places].mean(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((across * y[places]).sum(1) / (across * whole[places]).sum(1))

    value = float(ratio(np.arange(len(x))[None])[0])
    low, high = Bootstrap().interval(ratio, len(x))
    return Estimate(value, min(low, value), max(high, value), len(x), RATES)


def _no_line(x: Values, y: Values) -> Open | None:
    if len(x) < FEW:
        return TOO_FEW
    return Open("the curve is constant") if np.ptp(y) == 0 else None


def rank_trend(x: Values, y: Values) -> Estimate | Open:
    """Kendall's tau, with its bootstrap interval."""
    if len(x) < FEW:
        return TOO_FEW
    try:
        found = kendall(x.tolist(), y.tolist())
    except InputError as error:
        return Open(str(error))
    ends = min(found.low, found.value), max(found.high, found.value)
    return Estimate(found.value, *ends, found.points, RATES)


def kink(x: Values, y: Values) -> Estimate:
    """The x at which a constant that goes over into a power of x fits ``log y`` best, least squares; unknown without
    one.

    ``x`` and ``y`` are positive; ``x`` in rising order, at least four of them. Unknown too where no bend explains half
    of what a constant leaves. The interval holds the places whose sum of squares is not larger than the least one by
    more than an F test of one parameter allows (Seber and Wild 1989, sec. 5.3).
    """
    n = len(x)
    if n < FEW or not (np.all(x > 0) and np.all(y > 0)):
        return UNKNOWN
    across, along = np.log(x), np.log(y)
    places = np.linspace(across[0], across[-1], _PLACES)[1:-1]
    rest = np.array([_residual(np.maximum(across - place, 0.0), along) for place in places])
    best = int(np.argmin(rest))
    spread = float(np.square(along - along.mean()).sum())
    if rest[best] > 0.5 * spread or spread <= 1e-20 * float(1 + np.square(along).sum()):  # no bend, or rounding
        return UNKNOWN
    allowed = rest[best] * (1 + scipy.stats.f.ppf(0.95, 1, n - 3) / (n - 3))
    inside = places[rest <= allowed]
    apart = places[1] - places[0]  # what the places that are tried can tell
    value, low, high = np.exp([places[best], inside[0] - apart, inside[-1] + apart]).tolist()
    return Estimate(value, low, high)


def _residual(bent: Values, along: Values) -> float:
    design = np.stack([np.ones_like(bent), bent], 1)
    return float(np.square(along - design @ np.linalg.lstsq(design, along, rcond=None)[0]).sum())


def one_step(ratios: Values) -> float:
    """The wider of the two factors from 1 to the next grid points, or the factor between them where 1 is not one of
    them: what a place can be told to; inf without points on both sides."""
    below, above = ratios[ratios < 1].max(initial=0.0), ratios[ratios > 1].min(initial=np.inf)
    if below == 0:
        return float("inf")
    return float(max(1 / below, above) if (ratios == 1).any() else above / below)
