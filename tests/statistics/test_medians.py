"""The median over time: what it is, and how often its interval covers the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from edgescope.statistics.medians import time_median


def autoregressive(correlation: float, n: int, draws: int) -> np.ndarray:
    """``draws`` stationary series of median 0, one a row."""
    noise = np.random.default_rng(0).normal(size=(draws, n + 300))
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)[:, 300:]


@pytest.mark.parametrize(("correlation", "n", "least"), [(0.0, 30, 0.94), (0.5, 50, 0.93), (0.8, 100, 0.93)])
def test_intervals_of_correlated_skewed_series_cover_their_median(correlation: float, n: int, least: float) -> None:
    found = [time_median(np.exp(series)) for series in autoregressive(correlation, n, 300)]
    known = [one for one in found if one.known]
    assert len(known) > 0.9 * len(found)
    assert np.mean([one.low <= 1 <= one.high for one in known]) >= least


def test_of_independent_readings_it_lies_near_the_interval_of_the_exact_test() -> None:
    x = np.random.default_rng(3).normal(size=201)
    found = time_median(x)
    exact = stats.quantile_test(x, p=0.5).confidence_interval()
    assert found.value == np.median(x)
    assert found.samples > 100
    assert found.low <= exact.low + 0.1
    assert found.high >= exact.high - 0.1
    assert found.high - found.low < 2 * (exact.high - exact.low)


def test_infinite_values_count_as_large_ones() -> None:
    x = np.random.default_rng(0).normal(size=200)
    with_infinite = np.where(x > 1.0, np.inf, x)
    found, expected = time_median(with_infinite), time_median(x)
    assert found.value == expected.value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_a_constant_is_known_and_a_drift_is_not() -> None:
    constant = time_median([2.0] * 30)
    assert (constant.value, constant.low, constant.high) == (2.0, 2.0, 2.0)
    assert not time_median(np.linspace(0, 1, 60)).known
    assert not time_median([1.0, 2.0]).known
    assert math.isnan(time_median([]).value)
    assert time_median([1.0, math.nan, 1.0]).value == 1.0
