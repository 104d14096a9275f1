"""Means with intervals: against SciPy, against closed forms, and by how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import autocorrelation_time, pooled_mean, proportion, sample_mean, time_mean


def autoregressive(correlation: float, n: int, draws: int, seed: int = 0) -> np.ndarray:
    """``draws`` stationary series of mean 0, one a row."""
    noise = np.random.default_rng(seed).normal(size=(draws, n + 300))
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)[:, 300:]


def test_the_mean_of_samples_is_that_of_students_t() -> None:
    x = np.random.default_rng(0).normal(size=7)
    found = sample_mean(x)
    low, high = stats.t.interval(0.95, 6, loc=x.mean(), scale=stats.sem(x))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.samples, found.sampled) == (7, "seeds")
    assert sample_mean([*x, math.nan]) == found
    assert not sample_mean([1.0]).known
    assert math.isnan(sample_mean([]).value)


@pytest.mark.parametrize(
    ("correlation", "n", "least"), [(0.0, 30, 0.94), (0.5, 50, 0.90), (0.9, 100, 0.86), (0.9, 800, 0.92)]
)
def test_intervals_of_correlated_series_cover_their_mean(correlation: float, n: int, least: float) -> None:
    found = [time_mean(series) for series in autoregressive(correlation, n, 400)]
    known = [one for one in found if one.known]
    inside = np.mean([one.low <= 0 <= one.high for one in known])
    assert len(known) > 0.85 * len(found)
    assert inside >= least
    naive = [1.96 * series.std() / math.sqrt(n) for series in autoregressive(correlation, n, 400)]
    if correlation == 0.9:  # what sd/sqrt(n) would have claimed
        assert np.mean([abs(s.mean()) <= r for s, r in zip(autoregressive(0.9, n, 400), naive, strict=True)]) < 0.5


def test_the_autocorrelation_time_of_an_autoregressive_series() -> None:
    for correlation in (0.0, 0.6, 0.9):
        times = [autocorrelation_time(series) for series in autoregressive(correlation, 20_000, 5)]
        assert np.mean(times) == pytest.approx((1 + correlation) / (1 - correlation), rel=0.15)
    assert autocorrelation_time(autoregressive(-0.8, 1000, 1)[0]) == 1.0


def test_a_drift_leaves_no_narrow_interval() -> None:
    drift = np.linspace(0, 1, 200) + 0.01 * autoregressive(0, 200, 1)[0]
    found = time_mean(drift)
    assert not found.known or found.half_width > 0.2


def test_a_series_without_scatter_is_its_value() -> None:
    found = time_mean([1.5] * 30)
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)
    assert not time_mean([1.5]).known


def test_shares_are_wilsons() -> None:
    z = stats.norm.ppf(0.975)
    found = proportion(7, 9)
    centre, n = (7 / 9 + z**2 / 18) / (1 + z**2 / 9), 9
    reach = z / (1 + z**2 / n) * math.sqrt(7 / 9 * 2 / 9 / n + z**2 / (4 * n**2))
    assert (found.low, found.high) == pytest.approx((centre - reach, centre + reach))
    assert proportion(0, 5).low == 0
    assert proportion(5, 5).high == 1
    assert math.isnan(proportion(0, 0).value)
    with pytest.raises(InputError, match="6 of 5"):
        proportion(6, 5)


def test_pooling_cases_that_differ_covers_the_mean_of_where_they_come_from() -> None:
    rng = np.random.default_rng(0)
    inside, fixed = [], []
    for _ in range(400):
        truths, errors = rng.normal(1.0, 0.3, size=8), rng.uniform(0.05, 0.3, size=8)
        values = rng.normal(truths, errors)
        cases = [Estimate(v, v - 1.96 * e, v + 1.96 * e) for v, e in zip(values, errors, strict=True)]
        found = pooled_mean(cases)
        inside.append(found.low <= 1.0 <= found.high)
        weights = errors**-2
        fixed.append(abs((weights * values).sum() / weights.sum() - 1) <= 1.96 / math.sqrt(weights.sum()))
    assert np.mean(inside) >= 0.92
    assert np.mean(fixed) < 0.75  # without the variance between cases


def test_pooling_few_or_bare_cases() -> None:
    one = Estimate(1.0, 0.9, 1.1)
    assert pooled_mean([one]) == one
    assert math.isnan(pooled_mean([]).value)
    bare = pooled_mean([Estimate(1.0), Estimate(2.0), Estimate(3.0)])
    assert bare.value == pytest.approx(2.0)
    assert bare.half_width == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3))


def test_estimates_that_are_none() -> None:
    for low, high in ((1.1, 1.2), (math.nan, 2.0)):
        with pytest.raises(InputError):
            Estimate(1.0, low, high)
    assert Estimate(2.0, 1.0, 4.0).scaled(-1) == Estimate(-2.0, -4.0, -1.0)
