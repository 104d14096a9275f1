"""Langevin dynamics: its mean step, its noise, its stationary variance, its rule."""

from __future__ import annotations

import pytest
import torch

import edgescope as es
from edgescope.errors import InputError
from edgescope.optim import OPTIMIZERS, Langevin, rule_for


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_that_of_sgd_and_noise_of_its_temperature(dtype: torch.dtype) -> None:
    start, gradient = torch.full((40_000,), 0.5, dtype=dtype), torch.linspace(-1, 1, 40_000, dtype=dtype)
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    for w in weights:
        w.grad = gradient.clone()
    torch.optim.SGD(weights[:1], lr=0.1, weight_decay=0.3).step()
    generator = torch.Generator().manual_seed(1)
    Langevin(weights[1:], lr=0.1, temperature=0.02, weight_decay=0.3, generator=generator).step()
    noise = (weights[1] - weights[0]).detach()
    assert float(noise.var()) == pytest.approx(2 * 0.1 * 0.02, rel=0.04)
    assert abs(float(noise.mean())) < 5 * (2 * 0.1 * 0.02 / 40_000) ** 0.5
    again = torch.nn.Parameter(start.clone())
    again.grad = gradient.clone()
    same = torch.Generator().manual_seed(1)
    Langevin([again], lr=0.1, temperature=0.02, weight_decay=0.3, generator=same).step()
    assert torch.equal(again, weights[1])


def test_it_samples_the_gibbs_measure_of_a_quadratic() -> None:
    """w' = (1 - lr a) w + noise has the variance 2 lr T / (1 - (1 - lr a)^2), a = curvature + decay."""
    w = torch.nn.Parameter(torch.zeros(20_000, dtype=torch.float64))
    optimizer = Langevin([w], lr=0.1, temperature=0.5, weight_decay=0.5, generator=torch.Generator().manual_seed(0))
    for _ in range(80):
        w.grad = 1.5 * w.detach()
        assert optimizer.step(lambda: "loss") == "loss"
    assert float(w.detach().var()) == pytest.approx(2 * 0.1 * 0.5 / (1 - 0.8**2), rel=0.05)


def test_groups_have_temperatures_of_their_own_and_what_has_no_gradient_stays() -> None:
    cold, hot, frozen = (torch.nn.Parameter(torch.zeros(5000)) for _ in range(3))
    groups = [{"params": [cold, frozen], "temperature": 0.01}, {"params": [hot]}]
    optimizer = Langevin(groups, lr=0.1, temperature=1.0)
    cold.grad, hot.grad = torch.zeros(5000), torch.zeros(5000)
    optimizer.step()
    assert float(hot.detach().var() / cold.detach().var()) == pytest.approx(100, rel=0.2)
    assert not frozen.detach().any()


def test_its_rule_is_that_of_descent() -> None:
    model = torch.nn.Linear(3, 1)
    data = (torch.randn(8, 3), torch.randn(8, 1))
    objective = es.Objective(model, es.supervised(torch.nn.functional.mse_loss), data, path="rebuilt", threads=1)
    optimizer = OPTIMIZERS.build("langevin:temperature=0.01,weight_decay=0.2").build(model.parameters(), lr=0.1)
    assert isinstance(optimizer, Langevin)
    rule = rule_for(optimizer, objective.tensors)
    assert rule.threshold().value == pytest.approx(20.0)
    shift = rule.shift()
    assert shift is not None
    assert bool((shift == 0.2).all())


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_named(temperature: float) -> None:
    w = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match="temperature") as caught:
        Langevin([w], lr=0.1, temperature=temperature)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="temperature"):
        OPTIMIZERS.build(f"langevin:temperature={temperature}")
