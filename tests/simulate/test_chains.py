"""Simulated chains: against plain loops, moments of their noise in closed form, and escape times of the theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgescope.errors import InputError
from edgescope.simulate.chains import chains
from edgescope.theory.deep_linear import Mode

NEVER = 1e6


@pytest.mark.parametrize(("depth", "signal", "variance"), [(1, 0.7, 1.0), (2, 1.2, 1.0), (3, 0.9, 1.4), (5, 1.0, 0.6)])
def test_descent_is_the_plain_loop(depth: int, signal: float, variance: float) -> None:
    w = np.full(depth, 0.8)
    for _ in range(50):
        rest = np.array([np.prod(np.delete(w, i)) for i in range(depth)])
        w = w - 0.03 * (0.2 * w - (signal - variance * np.prod(w)) * rest)
    mode = Mode(depth, signal, variance)
    found = chains(mode, 0.2, lr=0.03, steps=50, level=NEVER, start=0.8, replicas=2, threads=1)
    np.testing.assert_allclose(found.weights, np.tile(w, (2, 1)), rtol=1e-12)
    assert found.steps.tolist() == [50, 50]
    assert not found.passed.any()


def test_descent_settles_in_the_learned_state() -> None:
    mode = Mode(3, 1.0)
    found = chains(mode, 0.3, lr=0.1, steps=3000, level=-1, start=1.0)
    assert found.weights.prod() == pytest.approx(mode.minimum_product(0.3), rel=1e-9)


@pytest.mark.parametrize("batch", [1, 6])
def test_mini_batch_noise_has_the_variance_of_the_theory(batch: int) -> None:
    """w^(2D-2) [r v + 2 v^2 (s/v - p)^2] / b for one weight, the same noise in all D (with r of the targets)."""
    w, signal, variance, residual, replicas = 0.9, 0.8, 1.3, 0.4, 10_000
    found = chains(
        Mode(3, signal, variance), 0.2, lr=1.0, steps=1, level=NEVER, start=w, batch=batch, residual=residual,
        replicas=replicas, seed=3, threads=1,
    )  # fmt: skip
    slopes = w - found.weights
    misfit = signal / variance - w**3
    mean = 0.2 * w - variance * misfit * w**2
    spread = w**4 * (residual * variance + 2 * variance**2 * misfit**2) / batch
    assert slopes[:, 0].mean() == pytest.approx(mean, abs=5 * math.sqrt(spread / replicas))
    assert slopes[:, 0].var() == pytest.approx(spread, rel=0.1)
    np.testing.assert_allclose(slopes[:, 0], slopes[:, 2], rtol=1e-9, atol=1e-12)


def test_langevin_noise_is_independent_in_every_weight() -> None:
    found = chains(
        Mode(3, 1.0), 0.3, lr=0.05, steps=1, level=NEVER, temperature=0.02, replicas=10_000, seed=1, threads=1
    )
    np.testing.assert_allclose(np.cov(found.weights.T), 2 * 0.05 * 0.02 * np.eye(3), atol=1e-4)


def test_escape_times_are_those_of_kramers() -> None:
    """300 replicas, ratio 0.85 to 1.25 (statistical error 6%)."""
    mode = Mode(3, 1.0)
    for temperature in (0.006, 0.0042):
        found = chains(
            mode, 0.3, lr=0.05, steps=10**6, level=0.342, temperature=temperature, replicas=300, seed=2, threads=1
        )
        assert found.passed.all()
        assert 0.85 < found.times.mean() / mode.kramers_time(0.3, temperature) < 1.25


def test_a_mode_that_is_lost_under_mini_batches_passes_downwards() -> None:
    mode = Mode(3, 0.8)
    start = mode.minimum(0.33)
    found = chains(mode, 0.33, lr=0.05, steps=20_000, level=0.03, start=start, batch=4, replicas=20, seed=5)
    assert found.passed.mean() > 0.9
    assert (found.weights[found.passed].prod(1) <= 0.03).all()
    back = chains(mode, 0.33, lr=0.05, steps=20_000, level=0.03, start=0.0, batch=4, replicas=5, seed=5)
    assert not back.passed.any()  # an unlearned mode has no noise


def test_results_do_not_depend_on_threads_but_on_the_seed() -> None:
    one, two, other = (
        chains(Mode(3, 1.0), 0.3, lr=0.05, steps=500, level=0.3, temperature=0.006, replicas=6, seed=s, threads=t)
        for s, t in ((0, 1), (0, 2), (1, 1))
    )
    assert one.weights.tolist() == two.weights.tolist()
    assert one.weights.tolist() != other.weights.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decay": 0.0}, "decay=0;"),
        ({"temperature": 0.0}, "temperature=0;"),
        ({"temperature": -1.0}, "temperature=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"threads": 0}, "threads=0"),
        ({"lr": -1.0}, "lr=-1"),
        ({"replicas": 0}, "replicas=0"),
        ({"level": 0.0}, "product at the start"),
        ({"lr": 50.0, "start": 3.0, "level": 1e300}, "diverged"),
        ({"batch": 2, "residual": -0.5}, "residual variance -0.5"),
    ],
)
def test_bad_input_is_named_in_one_line(change: dict[str, float], words: str) -> None:
    options = {"decay": 0.3, "lr": 0.05, "steps": 100, "level": 0.3} | change
    with pytest.raises(InputError, match=words) as caught:
        chains(Mode(3, 1.0), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
