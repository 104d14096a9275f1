"""Estimates of escapes with their 95% intervals, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from edgescope.claims import Answer, Measured, Open
from edgescope.errors import InputError
from edgescope.experiments.phases.escape_levels import Level
from edgescope.phases import EscapeTimes, arrhenius
from edgescope.statistics.estimate import Estimate

EPOCHS = 10_000
"""Epochs within which most of the paper's networks escape."""


def mean_time(times: EscapeTimes, unit: float = 1.0) -> Estimate | Open:
    """The mean time of escape in units of ``unit``, by the likelihood of exponential times."""
    return _too_few(times) or times.mean().scaled(1 / unit)


def exponent(times: EscapeTimes) -> Estimate | Open:
    """The exponent of a Weibull law; 1 is an exponential law."""
    return _too_few(times) or times.shape()


def time_ratio(times: EscapeTimes, others: EscapeTimes, unit: float = 1.0) -> Estimate | Open:
    """Ratio of two mean times. The interval is that of Fisher's F, exact for exponential times without a cut-off."""
    if missing := _too_few(times) or _too_few(others):
        return missing
    ratio = times.total / times.escapes / (others.total / others.escapes)
    high, low = ratio / scipy.stats.f.ppf([0.025, 0.975], 2 * times.escapes, 2 * others.escapes)
    return Estimate(ratio, low, high, min(times.escapes, others.escapes), "escapes of each").scaled(1 / unit)


def slope(levels: Sequence[Level], unit: float = 1.0) -> Estimate | Open:
    """The slope of ln(mean time) over 1/T, batch/lr or barrier/T, in units of ``unit``; interval by likelihood."""
    try:
        return arrhenius([one.coldness for one in levels], [one.times for one in levels]).scaled(1 / unit)
    except InputError:
        return Open("fewer than two levels of noise with escapes", "longer runs")


def escapes_expected(escaped: float, epochs: float, least: float) -> Estimate | Open:
    """Escapes of a network within ``EPOCHS`` epochs, by their number in ``epochs`` of all networks together.

    The interval is Garwood's for a Poisson number. Where none escaped and ``least`` lies within it, the case is open,
    with the epochs that would decide it.
    """
    low = float(scipy.stats.chi2.ppf(0.025, 2 * escaped)) / 2 if escaped else 0.0
    high = float(scipy.stats.chi2.ppf(0.975, 2 * escaped + 2)) / 2
    unit = EPOCHS / epochs
    if escaped or high * unit < least:
        return Estimate(escaped * unit, low * unit, high * unit, escaped, "escapes")
    why = f"none escaped in {epochs:,.0f} epochs of all networks, which allows {high * unit:.2g} in {EPOCHS:,}"
    missing = math.ceil(high / least * EPOCHS - epochs)
    return Open(why, f"about {missing:,} more epochs of such networks without an escape", 0.0)


def middle(values: Sequence[float] | np.ndarray, sampled: str) -> Estimate:
    """The median of independent samples, with the interval between order statistics (of at least 95%).

    Without an interval for fewer than six samples. Source: David and Nagaraja 2003 (Order statistics), sec. 7.1.
    """
    x = np.sort(np.asarray(values, dtype=float))
    rank = int(scipy.stats.binom.ppf(0.025, x.size, 0.5)) if x.size else 0
    value = float(np.median(x)) if x.size else math.nan
    if rank < 1:
        return Estimate(value, samples=x.size, sampled=sampled)
    return Estimate(value, float(x[rank - 1]), float(x[-rank]), x.size, sampled)


def with_rows(answer: Estimate | Open, rows: Mapping[str, float | Estimate]) -> Answer:
    """An estimate, or a reason for none, with other quantities beside it."""
    if isinstance(answer, Open):
        return Open(answer.why, answer.needs, answer.value, rows)
    return Measured(answer, rows)


def _too_few(times: EscapeTimes) -> Open | None:
    if times.escapes >= 2:
        return None
    return Open(f"{times.escapes} of {len(times.times)} replicas escaped", "longer runs")
