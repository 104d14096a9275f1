"""Means and shares with 95% intervals: of independent samples, of time series, of counts, and over several cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float, Num

from edgescope.errors import InputError
from edgescope.statistics.estimate import UNKNOWN, Estimate

LEVEL = 0.95
WINDOW = 5.0
"""Autocorrelation times after which the sum over lags is cut off (Sokal 1997, sec. 3)."""

Values = Sequence[float] | Num[np.ndarray, " n"]


def sample_mean(values: Values, sampled: str = "seeds") -> Estimate:
    """The mean of n independent samples with the interval of Student's t; without an interval for n = 1.

    NaN samples are left out. Source: Student 1908.
    """
    x = _finite(values)
    if x.size == 0:
        return UNKNOWN
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(mean, samples=1, sampled=sampled)
    reach = float(scipy.special.stdtrit(x.size - 1, (1 + LEVEL) / 2) * x.std(ddof=1) / math.sqrt(x.size))
    return Estimate(mean, mean - reach, mean + reach, x.size, sampled)


def time_mean(values: Values, sampled: str = "readings") -> Estimate:
    """The mean over time of a stationary series, with an interval that takes its autocorrelation into account.

    The n readings count as n / tau independent ones, where tau is the :func:`autocorrelation_time`, and the interval
    is that of Student's t with as many degrees of freedom less one. The variance of the series is divided by
    1 - tau/n, since a short series does not leave the neighbourhood of its own mean. A series that drifts has a long
    tau and so a wide interval; without an interval where fewer than two independent readings remain.

    Source: Sokal 1997 (Monte Carlo methods in statistical mechanics), sec. 3. Cost: n log n.
    """
    x = _finite(values)
    if x.size == 0:
        return UNKNOWN
    mean, spread = float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else 0.0
    if x.size > 1 and spread <= 1e-12 * abs(mean):  # constant up to rounding
        return Estimate(mean, min(mean, x.min()), max(mean, x.max()), x.size, sampled)
    tau = autocorrelation_time(x)
    independent = x.size / tau
    if independent < 2:
        return Estimate(mean, samples=independent, sampled=sampled)
    error = spread / math.sqrt((1 - tau / x.size) * independent)
    reach = float(scipy.special.stdtrit(independent - 1, (1 + LEVEL) / 2)) * error
    return Estimate(mean, mean - reach, mean + reach, independent, sampled)


def autocorrelation_time(values: Values) -> float:
    """The integrated autocorrelation time of a series of n readings: from 1, where they are independent, to n.

    The larger of two estimates. One is 1 + 2 times the sum of the autocorrelations up to the first lag beyond
    ``WINDOW`` times the result (Sokal 1997, eq. 3.19). In a short series that sum is too small, so the other is that
    of an autoregressive series of first order, (1 + r)/(1 - r), with the first autocorrelation r freed of its bias
    -(1 + 3r)/n (Kendall 1954; Marriott and Pope 1954). Oscillations, whose sum is below 1, count as independent.
    """
    x = _finite(values)
    n = x.size
    if n < 5:
        return float(max(n, 1))
    centred = x - x.mean()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * n)) ** 2)[:n]
    if correlation[0] <= 0:
        return 1.0
    sums = 2 * np.cumsum(correlation / correlation[0]) - 1
    beyond = np.flatnonzero(np.arange(n) >= WINDOW * np.maximum(sums, 1.0))
    summed = float(sums[beyond[0]] if beyond.size else sums[-1])
    first = min(1.0, (n * float(correlation[1] / correlation[0]) + 1) / (n - 3))
    regressive = (1 + first) / (1 - first) if first < 1 else float(n)
    return min(float(n), max(1.0, summed, regressive))


def proportion(count: int, of: int, sampled: str = "draws") -> Estimate:
    """A share of ``of`` independent draws with Wilson's interval; unknown for none. Source: Wilson 1927."""
    if not 0 <= count <= of:
        raise InputError(f"{count} of {of}", expected="a count of at most the number of draws")
    if of == 0:
        return UNKNOWN
    found = scipy.stats.binomtest(int(count), int(of)).proportion_ci(LEVEL, method="wilson")
    share = count / of
    return Estimate(share, min(float(found.low), share), max(float(found.high), share), of, sampled)


def pooled_mean(estimates: Sequence[Estimate], sampled: str = "cases") -> Estimate:
    """The mean over cases that differ among themselves beyond their own intervals (random effects).

    The variance between cases is that of DerSimonian and Laird, and the interval that of Hartung, Knapp, Sidik and
    Jonkman: Student's t with one degree of freedom less than cases. Cases without an interval of their own count with
    the variance between cases alone, that is, all values then weigh the same. Unknown for no case, without an
    interval for one that has none; that of the case itself for one that has.

    Source: DerSimonian and Laird 1986; Hartung and Knapp 2001.
    """
    known = [one for one in estimates if not math.isnan(one.value)]
    if not known:
        return UNKNOWN
    if len(known) == 1:
        return known[0]
    if not all(one.known for one in known):
        return sample_mean([one.value for one in known], sampled)
    values = np.array([one.value for one in known])
    within = np.array([(one.half_width / scipy.special.ndtri((1 + LEVEL) / 2)) ** 2 for one in known])
    if (within <= 0).any():
        return sample_mean(values, sampled)
    fixed = 1 / within
    centre = float((fixed * values).sum() / fixed.sum())
    excess = float((fixed * (values - centre) ** 2).sum()) - (len(known) - 1)
    between = max(0.0, excess / float(fixed.sum() - (fixed**2).sum() / fixed.sum()))
    weights = 1 / (within + between)
    mean = float((weights * values).sum() / weights.sum())
    scatter = float((weights * (values - mean) ** 2).sum()) / (len(known) - 1)
    # Not below the interval of the fixed weights, which agreement by chance would make arbitrarily narrow.
    error = math.sqrt(max(scatter, 1.0) / float(weights.sum()))
    reach = float(scipy.special.stdtrit(len(known) - 1, (1 + LEVEL) / 2)) * error
    return Estimate(mean, mean - reach, mean + reach, len(known), sampled)


def _finite(values: Values) -> Float[np.ndarray, " finite"]:
    x = np.asarray(values, dtype=float).ravel()
    return x[np.isfinite(x)]
