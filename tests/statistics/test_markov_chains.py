"""Errors of means over Markov chains, and R-hat, on autoregressive series whose moments are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgescope.statistics.markov_chains import ChainTrace


def chains(length: int, k: int, memory: float, seed: int, pieces: int = 100) -> tuple[ChainTrace, np.ndarray]:
    """k chains of an autoregressive series of variance 1 in equilibrium, in pieces."""
    draw = np.random.default_rng(seed)
    x = np.empty((length, k))
    x[0] = draw.normal(size=k)
    for t in range(1, length):
        x[t] = memory * x[t - 1] + math.sqrt(1 - memory**2) * draw.normal(size=k)
    cut = x.reshape(pieces, -1, k)
    return ChainTrace(cut.mean(1), (cut**2).mean(1)), x


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_both_errors_are_those_of_the_mean(memory: float) -> None:
    trials = [chains(1000, 8, memory, seed)[0] for seed in range(50)]
    true = math.sqrt((1 + memory) / (1 - memory) / 8000)
    assert np.std([one.means.mean() for one in trials]) == pytest.approx(true, rel=0.3)
    assert np.mean([one.error_between() for one in trials]) == pytest.approx(true, rel=0.15)
    assert 0.9 < np.mean([one.error_within() for one in trials]) / true < 1.25
    covered = [one.mean().low <= 0 <= one.mean().high for one in trials]
    assert sum(covered) >= 43  # 95% of 50, less three standard errors


def test_r_hat_is_the_classic_one() -> None:
    trace, x = chains(400, 4, 0.5, 1)
    halves = np.concatenate([x[:200], x[200:]], axis=1)
    within, between = halves.var(0, ddof=0).mean(), halves.mean(0).var(ddof=1)
    assert trace.r_hat() == pytest.approx(math.sqrt(1 + between / within), rel=1e-9)
    assert trace.r_hat() < 1.05


def test_a_drift_and_chains_apart_are_seen() -> None:
    trace, _ = chains(400, 6, 0.5, 2)
    assert trace.drift() > 0.01
    up = np.linspace(0, 2, 100)[:, None]
    assert ChainTrace(trace.means + up, trace.squares + 2 * trace.means * up + up**2).drift() < 1e-3
    apart = np.arange(6.0)[None]
    assert ChainTrace(trace.means + apart, trace.squares + 2 * trace.means * apart + apart**2).r_hat() > 1.5


def test_one_chain_has_an_error_within_alone() -> None:
    trace, _ = chains(1000, 1, 0.5, 3)
    assert math.isnan(trace.error_between())
    assert trace.drift() == 1
    assert trace.mean().known


def test_chains_too_short_have_no_error_within() -> None:
    short = ChainTrace(np.ones((3, 2)) * [1, 2], np.ones((3, 2)) * [1, 4])
    assert math.isnan(short.error_within())
    assert short.mean().value == 1.5


def test_chains_that_never_move() -> None:
    still = ChainTrace(np.ones((10, 2)), np.ones((10, 2)))
    assert still.r_hat() == 1
    assert still.drift() == 1
