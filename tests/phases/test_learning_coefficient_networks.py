"""Learning coefficients of singular models, of mini-batches and of networks that are evaluated one by one."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from quadratics import half_mse, linear_network
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeWarning
from edgescope.objective.several_points import SeveralPoints
from edgescope.phases.sgld_batches import BatchGradients
from edgescope.phases.sgld_edge import Localized
from edgescope.theory.reduced_rank import reduced_rank


def regression(rows: int = 40, dtype: torch.dtype = torch.float64, **options: object) -> es.Objective:
    """A tanh network on random data."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    data = torch.randn(rows, 3, dtype=dtype), torch.randn(rows, 2, dtype=dtype)
    return es.Objective(model, es.supervised(half_mse), data, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_several_points_are_those_of_the_objective(dtype: torch.dtype, l2: float) -> None:
    objective = regression(dtype=dtype, l2=l2)
    several, W = SeveralPoints(objective, 3), torch.randn(3, objective.size, dtype=dtype)
    with several.ready():
        before = objective.spent.gradients
        losses, gradients = several(W)
        assert objective.spent.gradients == before + 3 + 1
        several(W)
        assert objective.spent.gradients == before + 2 * 3 + 1
        several._calls = 10**6
        traced = several(W)
    assert several.side_by_side
    assert several._traced
    assert torch.equal(traced[1], gradients)
    tol = {"rtol": 1e-10 if dtype == torch.float64 else 1e-4, "atol": 1e-6}
    torch.testing.assert_close(gradients, torch.stack([objective.gradient(w) for w in W]), **tol)
    torch.testing.assert_close(losses, torch.stack([objective.loss(w) for w in W]), **tol)


def test_models_that_cannot_be_mapped_are_evaluated_one_by_one() -> None:
    """Batch statistics write to buffers; several batches are summed by the objective."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    for objective in (
        es.Objective(model, es.supervised(half_mse), data),
        es.Objective(model.eval(), es.supervised(half_mse), [data, data], mode="eval"),
    ):
        several, W = SeveralPoints(objective, 2), torch.randn(2, objective.size, dtype=torch.float64)
        statistics = model[1].running_mean.clone()
        with several.ready():
            losses, gradients = several(W)
        assert torch.equal(model[1].running_mean, statistics)
        assert torch.allclose(gradients, torch.stack([objective.gradient(w) for w in W]))
        assert torch.allclose(losses, torch.stack([objective.loss(w) for w in W]))


def test_a_singular_start_has_the_curvature_of_where_the_chains_go() -> None:
    """At rank 0 the Hessian is 0, and a step set there would be far above the edge."""
    objective = linear_network([2, 1, 2], 0)
    found = es.learning_coefficient(objective, n=10, gamma=4.0, chains=32, burn_in=1.5)
    assert found.status == "mixed"
    assert found.sharpness > 0.1
    assert found.edge_share < 0.3
    assert 0 < found.value < 1  # 1 in the limit of many samples; half of the 4 parameters would be 2


def test_mini_batches_have_unbiased_losses_and_gradients() -> None:
    objective = regression(12)
    w = objective.parameters()
    batches = BatchGradients(objective, 6, 3, w, float(objective.loss()))
    before = objective.spent.gradients
    away = w + 0.3 * torch.randn(objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    losses, gradients = batches(away.repeat(200, 1))
    error = float(losses.std()) / 200**0.5
    assert abs(float(losses.mean() - objective.loss(away))) < 4 * error
    assert float((gradients.mean(0) - objective.gradient(away)).norm()) < 4 * float(gradients.std(0).norm()) / 200**0.5
    assert float(gradients.var(0).sum()) == pytest.approx(batches.variance, rel=3)
    batches.settle()
    assert objective.spent.gradients - before == pytest.approx(0.5 * 216 + 2, abs=2)


def test_the_bound_of_mini_batch_noise_is_that_of_a_quadratic() -> None:
    """Of one mode with curvature a and variance v of the gradient: ½ n β h/a times step (n β)² v/4 at most."""
    target, step, h, v = Localized(20.0, 1.0), 0.01, 2.0, 0.3
    batches = BatchGradients.__new__(BatchGradients)
    batches.variance = v
    a = 20 * h + 1
    variance = (step + step**2 / 4 * 20**2 * v) / (1 - (1 - step * a / 2) ** 2)
    rise = 20 * h / 2 * variance - target.coefficient([h], step)
    assert 0.8 * rise < batches.bias(target, step) * 1 / (1 - step * a / 4) < 1.3 * rise


def test_full_batches_are_the_default_and_mini_batches_come_near() -> None:
    objective = regression(40)
    options = {"gamma": 50.0, "chains": 4, "times": 6.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)  # that the network is not trained
        whole, parts = (es.learning_coefficient(objective, batch=batch, **options) for batch in (None, 20))
    assert whole.batch_bias is None
    assert whole.n == parts.n == 40
    assert whole.beta == parts.beta
    assert parts.batch_bias is not None
    difference = np.nanmean(parts.chains) - np.nanmean(whole.chains)
    assert -5 * (whole.error_between + parts.error_between) < difference
    assert difference < 5 * (whole.error_between + parts.error_between) + parts.batch_bias


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "options", "independent", "its_error"),
    [
        (0, {"chains": 64, "times": 2.0, "burn_in": 1.0}, 2.481, 0.023),
        (2, {"chains": 64, "gamma": 20.0, "step": 1.825e-4}, 4.32, 0.02),
    ],
)
def test_reduced_rank_regression_at_ten_thousand_samples(
    rank: int, options: dict[str, float], independent: float, its_error: float
) -> None:
    """As another program samples it, with a step of a tenth of the edge, which raises the estimate of rank 2 by 8%."""
    found = es.learning_coefficient(linear_network([3, 2, 3], rank), n=10_000, **options)
    assert found.status == "mixed"
    assert abs(found.value - independent) < 4 * math.hypot(found.error, its_error)
    assert -0.05 < found.value / reduced_rank(3, 2, 3, rank).coefficient - 1 < found.step_bias
