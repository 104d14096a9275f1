"""The difference of the means of two independent samples whose variances may differ, with its 95% interval."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import LEVEL

First = Float[np.ndarray, " n"]
Second = Float[np.ndarray, " m"]


def mean_difference(first: First, second: Second, sampled: str = "seeds") -> Estimate:
    """The mean of ``first`` less that of ``second``, independent samples of unequal variances.

    Without an interval where one of them is a single value, unknown where one is empty. Source: Welch 1947.
    """
    fewest = min(first.size, second.size)
    if fewest == 0:
        return UNKNOWN
    difference = float(first.mean() - second.mean())
    if fewest == 1:
        return Estimate(difference, samples=1, sampled=sampled)
    if not first.std() and not second.std():  # whose test statistic is 0/0
        return Estimate(difference, difference, difference, fewest, sampled)
    interval = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
    return Estimate(difference, interval.low, interval.high, fewest, sampled)
