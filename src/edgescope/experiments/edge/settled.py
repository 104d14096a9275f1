"""Where a series of a run has settled: its mean over the second half, unless the two quarters of that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from edgescope.claims import Open
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import time_mean

AT_LEAST = 20
"""Readings in the second half of a run that a mean over time needs to say something."""


def second_half(
    steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The finite readings from half of the last step on."""
    late = np.isfinite(values) & (steps >= steps[-1] / 2) if len(steps) else np.zeros(0, bool)
    return steps[late], values[late]


def settled_mean(steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Estimate | Open:
    """The mean over the second half of a run, with an interval that takes the autocorrelation into account.

    Open where there are fewer than ``AT_LEAST`` readings, and where the mean of the last quarter differs from that of
    the quarter before by more than their 95% intervals together, or has none: the series has not settled.
    """
    return settled_ratio(steps, values, np.ones(len(steps)))


def settled_ratio(
    steps: Int[np.ndarray, " n"], ratios: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
) -> Estimate | Open:
    """The ratio of two means over the second half of a run, from readings of it and of its denominator.

    As :func:`settled_mean`; the interval is that of the mean of (numerator - ratio · denominator)/mean denominator, the
    delta method.
    """
    kept = np.isfinite(ratios) & np.isfinite(weights)
    late_steps, late = second_half(steps[kept], ratios[kept])
    weighed = weights[kept][-late.size :] if late.size else late
    if late.size < AT_LEAST:
        return Open(f"{late.size} readings in the second half of the run, {AT_LEAST} needed", "a longer run")
    half = late.size // 2
    pooled, third, fourth = (_pooled(late[part], weighed[part]) for part in (np.s_[:], np.s_[:half], np.s_[half:]))
    change = fourth.value - third.value
    if not (pooled.known and abs(change) <= math.hypot(third.half_width, fourth.half_width)):  # also where one is NaN
        how = "rising" if change > 0 else "falling"
        why = f"still {how}: {third.value:.3g} in the third quarter of the run, {fourth.value:.3g} in the last"
        return Open(why, "a longer run", pooled.value)
    return replace(pooled, samples=late.size * float(np.median(np.diff(late_steps))), sampled="steps")


def half_ratio(
    steps: Int[np.ndarray, " n"], ratios: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
) -> Estimate:
    """As :func:`settled_ratio`, whether it has settled or not."""
    kept = np.isfinite(ratios) & np.isfinite(weights)
    late = second_half(steps[kept], ratios[kept])[1]
    return _pooled(late, weights[kept][-late.size :]) if late.size else UNKNOWN


def _pooled(ratios: Float[np.ndarray, " m"], weights: Float[np.ndarray, " m"]) -> Estimate:
    value = float((ratios * weights).sum() / weights.sum())
    spread = time_mean((ratios - value) * weights / weights.mean())
    if not spread.known:
        return Estimate(value)
    return Estimate(value, value - spread.half_width, value + spread.half_width)


def half_mean(steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Estimate:
    """The mean over the second half of a run with its interval, whether it has settled or not."""
    return time_mean(second_half(steps, values)[1])
