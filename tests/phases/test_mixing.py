"""Which chains count as mixed: the limit of R-hat against simulated chains, and chains whose R-hat misleads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from jaxtyping import Float
from quadratics import linear_network, quadratic

import edgescope as es
from edgescope.errors import EdgescopeWarning, NotKnownError
from edgescope.phases.mixing import R_HAT, largest_r_hat_of_distances
from edgescope.statistics.markov_chains import ChainTrace


def squared_distances(times: float, shape: tuple[int, int], flat: int) -> Float[np.ndarray, "b c k"]:
    """Of stationary chains that gamma alone holds, in pieces: exact draws of an Ornstein-Uhlenbeck process."""
    random, kept = np.random.default_rng(0), math.exp(-times / 100)
    w = random.standard_normal((*shape, flat))
    found = []
    for _ in range(100):
        found.append((w**2).sum(2))
        w = kept * w + math.sqrt(1 - kept**2) * random.standard_normal(w.shape)
    return np.stack(found)


@pytest.mark.parametrize(("times", "rate"), [(2.0, 0.03), (8.0, 0.01)])
def test_mixed_chains_exceed_the_limit_as_rarely_as_stated(times: float, rate: float) -> None:
    draws = squared_distances(times, (600, 8), 10)
    r_hat = np.array([ChainTrace(draws[:, i], draws[:, i] ** 2).r_hat() for i in range(600)])
    limit = largest_r_hat_of_distances(times, 8)
    assert np.mean(r_hat > limit) < rate
    assert r_hat.max() > 1 + 0.6 * (limit - 1)  # not far above all that occurs
    assert limit > largest_r_hat_of_distances(2 * times, 8)
    assert limit > largest_r_hat_of_distances(times, 64)


def test_the_limit_of_the_default_chains() -> None:
    """Against the integral of (1 - s/H) exp(-2 s)/H over s up to H = 4, twice, and the table of chi-squared."""
    s = (np.arange(40_000) + 0.5) * 1e-4
    share = 2 * float(((1 - s / 4) * np.exp(-2 * s)).sum()) * 1e-4 / 4
    assert largest_r_hat_of_distances(8.0, 8) == pytest.approx(
        math.sqrt(1 + share / (1 - share) * 37.697 / 15), rel=1e-4
    )
    assert math.isfinite(largest_r_hat_of_distances(1e-9, 2))


def test_a_small_r_hat_of_short_chains_gives_no_number() -> None:
    """The trap of many samples in short: with a step of the edge further out, the loss looks settled too low."""
    options = {"n": 10_000, "chains": 32, "step": 6.8e-5, "times": 0.07, "burn_in": 0.01}
    with pytest.warns(
        EdgescopeWarning, match=r"no value: burn-in of .*chains of 2,059 steps, below the 29,412 = 2/\(εγ\)"
    ):
        found = es.learning_coefficient(linear_network([3, 2, 3], 0), **options)
    assert found.r_hat < R_HAT
    assert found.chains.mean() < 0.95 * 2.5
    assert math.isnan(found.value)
    assert found.status == "not mixed"


def test_a_million_samples_are_refused_before_a_step_is_taken() -> None:
    objective = quadratic([1.0, 0.0])
    with pytest.raises(NotKnownError, match=r"3,619,1\d\d steps of 8 .* more than max_steps=500,000; try gamma=7\.3"):
        es.learning_coefficient(objective, n=10**6)
    assert objective.spent.gradients < 30
