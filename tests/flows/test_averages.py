"""Averages of oscillating trajectories against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgescope.errors import InputError
from edgescope.flows.averages import (
    block_mean,
    block_ratio,
    midpoint,
    midpoint_series,
    principal_axes,
    squared_components,
)


def trajectory(t: int) -> torch.Tensor:
    """Linear motion, and an oscillation whose size grows linearly."""
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    motion = torch.tensor([0.1, 0.0, -0.3], dtype=torch.float64)
    swing = torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64)
    return start + t * motion + (-1) ** t * (3 + t) * swing


def test_a_midpoint_has_linear_motion_and_no_oscillation() -> None:
    motion = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 7 * torch.tensor([0.1, 0.0, -0.3])
    found = midpoint(trajectory(6), trajectory(7), trajectory(8))
    # Each end carries (3 + t ± 1) of the swing, together twice what is in the middle.
    torch.testing.assert_close(found, motion.double(), rtol=1e-6, atol=1e-6)


def test_of_constant_acceleration_a_quarter_remains() -> None:
    values = 0.5 * np.arange(9.0) ** 2  # acceleration 1
    assert midpoint_series(values) == pytest.approx(values[1:-1] + 1 / 4)
    assert midpoint_series([1.0, 2.0]).size == 0


def test_the_interval_of_a_block_mean_is_students_of_the_blocks() -> None:
    values = np.random.default_rng(0).standard_normal(40)
    found = block_mean(values, 10)
    means = values.reshape(4, 10).mean(1)
    assert found.value == pytest.approx(values.mean())
    assert found.half_width == pytest.approx(3.182446 * means.std(ddof=1) / 2, rel=1e-6)
    assert (found.samples, found.sampled) == (4, "blocks")


def test_an_oscillation_of_period_two_does_not_widen_the_interval() -> None:
    found = block_mean(5 + np.tile([1.0, -1.0], 50), 10)
    assert (found.low, found.high) == (pytest.approx(5), pytest.approx(5))


def test_blocks_cover_the_mean_of_a_correlated_series() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        x = np.zeros(2000)
        for t, noise in enumerate(rng.standard_normal(1999)):
            x[t + 1] = 0.8 * x[t] + noise  # remembers about five steps
        covered += block_mean(x, 100).low <= 0 <= block_mean(x, 100).high
    assert 180 <= covered <= 199


def test_a_ratio_of_series_with_a_common_trend_is_sharp() -> None:
    loss = np.exp(-np.arange(100) / 20)
    found = block_ratio(1.02 * loss, loss, 10)
    assert (found.low, found.high) == (pytest.approx(1.02), pytest.approx(1.02))
    noisy = block_ratio(loss * (1 + 0.1 * np.random.default_rng(2).standard_normal(100)), loss, 10)
    assert noisy.low < 1 < noisy.high
    assert noisy.half_width < 0.1


def test_values_before_the_first_whole_block_count_in_the_mean_alone() -> None:
    found = block_mean([100.0, 1.0, 1.0, 1.0, 1.0], 2)
    assert found.value == pytest.approx(20.8)
    assert found.half_width == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_what_has_no_mean_is_unknown(values: list[float]) -> None:
    assert math.isnan(block_mean(values, 1).value)


def test_one_block_has_no_interval_and_other_lengths_are_refused() -> None:
    assert not block_mean([1.0, 2.0, 3.0], 2).known
    assert math.isnan(block_ratio([1.0], [0.0], 1).value)
    with pytest.raises(InputError, match="shapes"):
        block_ratio([1.0, 2.0], [1.0], 1)
    with pytest.raises(InputError, match="block"):
        block_mean([1.0], 0)


def test_measured_covariance_along_the_axes_is_the_predicted_one() -> None:
    generator = torch.Generator().manual_seed(0)
    P, k = 12, 3
    metric = torch.rand(P, generator=generator, dtype=torch.float64) + 0.5
    euclidean, _ = torch.linalg.qr(torch.randn(P, k, generator=generator, dtype=torch.float64))
    basis = euclidean / metric.sqrt()[:, None]  # U'PU = I
    factor = torch.randn(k, k, generator=generator, dtype=torch.float64)
    covariance = factor @ factor.mT
    values, axes = principal_axes(basis, covariance)
    torch.testing.assert_close(axes.mT @ (metric[:, None] * axes), torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(values, torch.linalg.eigvalsh(covariance).flip(0))
    # The columns of U F, with equal weights, have the covariance U X U' times 1/k.
    deviations = math.sqrt(k) * basis @ factor
    measured = torch.stack([squared_components(axes, metric, deviations[:, i]) for i in range(k)]).mean(0)
    torch.testing.assert_close(measured, values)
    one = squared_components(axes / math.sqrt(2), 2.0, deviations[:, 0])
    torch.testing.assert_close(one, (axes.mT @ deviations[:, 0]).square() * 2)
