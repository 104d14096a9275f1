"""Differences of means with Welch's interval, against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgescope.statistics.welch import mean_difference


def test_differences_of_means_have_the_interval_of_welch() -> None:
    first, second = np.array([1.0, 2.0, 4.0]), np.array([5.0, 5.5])
    a, b = first.var(ddof=1) / 3, second.var(ddof=1) / 2
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 1)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(a + b)
    found = mean_difference(first, second)
    middle = first.mean() - second.mean()
    assert (found.value, found.low, found.high) == pytest.approx((middle, middle - reach, middle + reach))
    assert mean_difference(np.ones(3), np.zeros(2)).low == 1.0
    assert not mean_difference(np.ones(1), second).known
    assert not mean_difference(np.ones(0), second).known
