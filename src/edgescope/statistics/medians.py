"""The median over time of a series, with a 95% interval that takes its autocorrelation into account."""

from __future__ import annotations

import math

import numpy as np
import scipy

from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import LEVEL, Values, autocorrelation_time


def time_median(values: Values, sampled: str = "readings") -> Estimate:
    """The median over time of a stationary series, between two of its own quantiles.

    Whether a reading lies above the median is a series of zeros and ones with its own
    :func:`~edgescope.statistics.means.autocorrelation_time` tau, or that of the readings where it is longer. The n
    readings count as m = n / tau independent ones, of which a share of 1/2 with the standard error 1/(2 sqrt(m)) lies
    above; the quantiles at 1/2 plus and minus so many standard errors as Student's t with m - 1 degrees of freedom says
    are the ends of the interval. No distribution is assumed, and infinite values count as large ones. Without an
    interval where the quantiles would lie beyond the readings, below some 6 independent ones. NaN is left out.

    Source: order statistics, David and Nagaraja 2003, sec. 7.1. Cost: n log n.
    """
    x = np.asarray(values, dtype=float).ravel()
    x = x[~np.isnan(x)]
    if x.size == 0:
        return UNKNOWN
    middle = float(np.quantile(x, 0.5, method="inverted_cdf"))
    if x.min() == x.max():
        return Estimate(middle, middle, middle, x.size, sampled)
    ranks = scipy.stats.rankdata(x)
    tau = max(autocorrelation_time((x > middle).astype(float)), autocorrelation_time(ranks))
    independent = x.size / tau
    if independent < 2:
        return Estimate(middle, samples=independent, sampled=sampled)
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, independent - 1)) / (2 * math.sqrt(independent))
    if reach > 0.5 - 0.5 / x.size:
        return Estimate(middle, samples=independent, sampled=sampled)
    low, high = np.quantile(x, [0.5 - reach, 0.5 + reach], method="inverted_cdf")
    return Estimate(middle, float(low), float(high), independent, sampled)
