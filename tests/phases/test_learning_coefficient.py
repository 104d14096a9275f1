"""Learning coefficients against the closed form of quadratics, with their errors, refusals and caveats."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from quadratics import quadratic
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError, NotKnownError
from edgescope.phases.sgld_edge import Localized

VALUES = [2.0, 1.0, 0.3, 0.05, 0.0, 0.0]
SHORT = {"n": 10, "beta": 0.5, "gamma": 1.0}  # 2/(εγ) is 55 steps


def near(found: es.phases.LearningCoefficient, truth: float, times: float = 4.0) -> bool:
    return abs(found.value - truth) < times * found.error


def test_the_closed_form_is_the_stationary_variance_of_the_sampler() -> None:
    """Of w' = (1 - ε a/2) w + sqrt(ε) ξ, summed as a series."""
    target, step, h = Localized(20.0, 3.0), 0.02, 1.5
    a = 20 * h + 3
    variance = step * sum((1 - step * a / 2) ** (2 * t) for t in range(2000))
    assert target.coefficient([h], step) == pytest.approx(20 * h / 2 * variance)
    assert target.edge(h) == pytest.approx(4 / a)
    assert target.coefficient([h], 1.001 * target.edge(h)) == math.inf
    assert Localized(20.0, 0.0).coefficient([3.0, 0.1, 0.0]) == pytest.approx(1.0)
    assert 1 + target.step_bias(0.1 * target.edge(h), h) == pytest.approx(1 / (1 - 0.1))


def test_a_quadratic_has_its_closed_form() -> None:
    objective = quadratic(VALUES)
    spectrum = es.spectrum(objective, method="exact")
    found = es.learning_coefficient(objective, chains=64, spectrum=spectrum, half_step=True, **SHORT)
    target = Localized(5.0, 1.0)
    assert found.status == "mixed"
    assert found.step == pytest.approx(0.1 * 4 / 11)
    assert found.edge_share == pytest.approx(0.1)
    assert found.relaxation == pytest.approx(2 / found.step)
    assert found.quadratic == pytest.approx(target.coefficient(VALUES, found.step))
    assert found.quadratic_exact == pytest.approx(2.0)
    assert found.error < 0.03
    assert near(found, target.coefficient(VALUES, found.step))
    taken = found.burn_in + found.steps + 2 * found.steps + 2 * found.relaxation  # half steps: twice as many
    assert found.cost.gradients == pytest.approx(64 * taken, rel=0.05)
    assert objective.spent.gradients >= found.cost.gradients
    half = found.half_step
    assert half is not None
    assert abs(half.value - target.coefficient(VALUES, found.step / 2)) < 4 * half.error
    assert abs(half.extrapolated - target.coefficient(VALUES)) < 4 * half.extrapolated_error
    assert 0 <= found.value / target.coefficient(VALUES) - 1 < found.step_bias + 4 * found.error


@pytest.mark.parametrize("times", [0.99, 1.01])
def test_the_edge_of_the_sampler_is_where_the_closed_form_has_it(times: float) -> None:
    """Where nothing but the step is wrong: 1% above the edge the chains diverge."""
    edge = Localized(5.0, 1.0).edge(2.0)
    options = {"step": times * edge, "times": 100.0, "burn_in": 30.0, "chains": 4, "max_steps": 10**6}
    if times < 1:
        found = es.learning_coefficient(quadratic([2.0]), **options, **SHORT)
        assert found.status == "mixed"
        assert found.value == pytest.approx(Localized(5.0, 1.0).coefficient([2.0], times * edge), rel=0.5)
        return
    with pytest.warns(EdgescopeWarning, match=r"no value: .*above the edge 0\.36"):
        found = es.learning_coefficient(quadratic([2.0]), **options, **SHORT)
    assert found.status in ("diverged", "not mixed")
    assert math.isnan(found.value)
    assert not found.interval.known


def test_chains_far_above_the_edge_diverge_and_have_no_value() -> None:
    with pytest.warns(EdgescopeWarning, match="no value: a chain diverged at a step of"):
        found = es.learning_coefficient(quadratic([2.0, 1.0]), step=1.0, times=2000.0, burn_in=1.0, **SHORT)
    assert found.status == "diverged"
    assert math.isnan(found.value)
    assert np.isnan(found.chains).all()


@pytest.mark.slow
def test_calls_with_other_seeds_differ_by_the_stated_error() -> None:
    objective = quadratic(VALUES)
    calls = [es.learning_coefficient(objective, chains=8, seed=seed, **SHORT) for seed in range(5)]
    assert all(one.status == "mixed" for one in calls)
    truth = Localized(5.0, 1.0).coefficient(VALUES, calls[0].step)
    values = np.array([one.value for one in calls])
    stated = np.sqrt(np.mean([one.error**2 for one in calls]))
    assert 0.3 < values.std(ddof=1) / stated < 2
    assert sum(one.interval.low <= truth <= one.interval.high for one in calls) >= 4
    assert len(set(values)) == len(calls)


def test_batches_change_nothing() -> None:
    """n is the number of samples, however they come in batches."""
    torch.manual_seed(0)
    x, y = torch.randn(24, 3, dtype=torch.float64), torch.randn(24, 2, dtype=torch.float64)
    model = nn.Linear(3, 2, dtype=torch.float64)
    loss = es.supervised(lambda f, t: 0.5 * (f - t).square().sum(1).mean())
    options = {"gamma": 5.0, "chains": 3, "times": 0.02, "burn_in": 0.02}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)  # that the chains are short
        whole, parts = (
            es.learning_coefficient(es.Objective(model, loss, data), **options)
            for data in ((x, y), [(x[:5], y[:5]), (x[5:], y[5:])])
        )
    assert whole.n == parts.n == 24
    assert whole.beta == pytest.approx(1 / math.log(24))
    assert parts.chains == pytest.approx(whole.chains, rel=1e-6)


def test_the_loss_has_to_be_at_a_minimum() -> None:
    with pytest.warns(EdgescopeWarning, match=r"the loss is not at a minimum: .*; the estimate is negative"):
        found = es.learning_coefficient(quadratic([2.0, 1.0], at=1.5), chains=16, **SHORT)
    assert found.status == "mixed"
    assert found.value < 0
    assert "negative" in found.reason
    assert "at a minimum" in found.reason
    assert found.above_minimum > 0.9 * 5 * (2 + 1) / 2 * 1.5**2


def test_chains_that_are_too_short_give_no_number() -> None:
    """R-hat of the loss is near 1 long before flat directions have moved."""
    with pytest.warns(EdgescopeWarning, match=r"no value: .*below the 55 = 2/\(εγ\)"):
        found = es.learning_coefficient(quadratic(VALUES), times=0.5, **SHORT)
    assert found.status == "not mixed"
    assert math.isnan(found.value)
    assert math.isnan(found.error)
    assert np.isfinite(found.chains).all()


def test_too_many_steps_are_refused_before_they_are_taken() -> None:
    objective = quadratic(VALUES)
    with pytest.raises(NotKnownError, match=r"1,050,001 steps of 8 .* try gamma=1\.01.*or max_steps=1050001") as error:
        es.learning_coefficient(objective, n=10_000, beta=1.0, gamma=0.952426, max_steps=1_000_000)
    assert objective.spent.gradients < 30
    assert "max_steps=1,000,000" in str(error.value)


@pytest.mark.parametrize("option", ["gamma", "times", "burn_in", "share", "beta", "step"])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(InputError, match=f"learning_coefficient with {option}=-1"):
        es.learning_coefficient(quadratic([1.0]), **{option: -1.0})


def test_model_gradients_and_generators_are_left_alone() -> None:
    objective = quadratic(VALUES, at=0.0)
    (w,) = objective.model.parameters()
    w.grad = torch.ones_like(w)
    before, state = w.detach().clone(), torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)  # that the chains are short
        es.learning_coefficient(objective, chains=4, seed=5, times=0.1, burn_in=0.1, **SHORT)
    assert torch.equal(w, before)
    assert torch.equal(w.grad, torch.ones_like(w))
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_same_seed_gives_the_same_number() -> None:
    objective = quadratic([2.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)  # that the chains are short
        same = [es.learning_coefficient(objective, chains=3, times=0.1, burn_in=0.1, seed=4, **SHORT) for _ in range(2)]
    assert same[0].chains.tolist() == same[1].chains.tolist()
