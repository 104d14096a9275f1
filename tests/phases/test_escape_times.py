"""Escape times: against SciPy's censored fits, intervals that cover, laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import CensoredData, expon, weibull_min

from edgescope.errors import InputError
from edgescope.phases import EscapeTimes, arrhenius


def drawn(seed: int, mean: float, count: int, cut: float = np.inf, shape: float = 1.0) -> EscapeTimes:
    times = mean * np.random.default_rng(seed).weibull(shape, count)
    return EscapeTimes(np.minimum(times, cut), times < cut)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cut", [np.inf, 1.5])
def test_mean_and_shape_are_those_of_scipys_censored_likelihood(seed: int, cut: float) -> None:
    found = drawn(seed, 2.0, 60, cut, shape=1.4)
    data = CensoredData(uncensored=found.times[found.escaped], right=found.times[~found.escaped])
    assert found.mean().value == pytest.approx(expon.fit(data, floc=0)[1], rel=1e-3)
    shape = found.shape()
    assert shape.value == pytest.approx(weibull_min.fit(data, floc=0)[0], rel=1e-3)
    assert shape.low < shape.value < shape.high


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    inverse = np.array([1.0, 2.0, 3.0, 4.0])
    covered = np.zeros(3)
    for seed in range(300):
        groups = [drawn(10 * seed + k, np.exp(1.2 * x), 12, cut=30.0) for k, x in enumerate(inverse)]
        slope = arrhenius(inverse, groups)
        mean, shape = groups[1].mean(), groups[1].shape()
        covered += [slope.low < 1.2 < slope.high, mean.low < np.exp(2.4) < mean.high, shape.low < 1 < shape.high]
    assert (covered / 300 > 0.9).all()
    assert (covered / 300 < 0.995).all()


def test_survival_falls_to_the_share_that_stays() -> None:
    found = drawn(0, 1.0, 200, cut=1.0)
    times, share = found.survival()
    assert share[-1] == pytest.approx(1 - found.escaped.mean())
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(share[:-1], np.exp(-times[:-1]), atol=0.12)


def test_no_escape_bounds_the_rate() -> None:
    nobody = EscapeTimes(np.full(30, 100.0), np.zeros(30, dtype=bool))
    assert nobody.rate_below() == pytest.approx(-np.log(0.05) / 3000)


def test_fewer_than_two_escapes_give_no_bare_number() -> None:
    one = EscapeTimes(np.array([1.0, 2.0, 2.0]), np.array([True, False, False]))
    for ask in (one.mean, one.shape, one.survival):
        with pytest.raises(InputError, match="1 of 3 replicas escaped; expected at least 2") as caught:
            ask()
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="1 escapes at 1 temperatures"):
        arrhenius([1.0, 2.0], [one, EscapeTimes(np.ones(2), np.zeros(2, dtype=bool))])
    with pytest.raises(InputError, match="two different"):
        arrhenius([1.0, 1.0], [one, one])
    with pytest.raises(InputError, match="times"):
        EscapeTimes(np.array([0.0]), np.array([True]))
    with pytest.raises(InputError, match="vectors of equal length"):
        EscapeTimes(np.array([1.0]), np.array([True, False]))
    with pytest.raises(InputError, match="no escape times; expected at least one replica"):
        EscapeTimes(np.empty(0), np.empty(0, dtype=bool))
    with pytest.raises(InputError, match="escaped with entries of"):
        EscapeTimes(np.array([1.0, 2.0]), np.array([0.5, 1.0]))
