"""Scalar RMSProp: its steps, its update rule, and how second moments move on average."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import edgescope as es
from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.operator import from_matrix
from edgescope.optim import OPTIMIZERS, ScalarRMSProp, rule_for


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def made(options: dict[str, Any], other: dict[str, Any]) -> tuple[ScalarRMSProp, list[Tensor]]:
    draw = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(shape, dtype=torch.float64, generator=draw).requires_grad_() for shape in ((3, 2), (4,), (2,))
    ]
    return ScalarRMSProp([{"params": [tensors[0], tensors[2]]}, {"params": [tensors[1]], **other}], **options), tensors


@pytest.mark.parametrize(
    ("options", "other"), [({"lr": 0.1}, {}), ({"lr": 0.1, "weight_decay": 0.3, "alpha": 0.5, "eps": 0.1}, {"lr": 0.5})]
)
def test_steps_and_rule(options: dict[str, Any], other: dict[str, Any]) -> None:
    optimizer, tensors = made(options, other)
    rule = rule_for(optimizer, tensors)
    w, state = flat(tensors), rule.state()
    alpha, eps, decay = options.get("alpha", 0.99), options.get("eps", 1e-8), options.get("weight_decay", 0.0)
    each = (0.1, other.get("lr", 0.1), 0.1)
    rates = torch.cat([torch.full((t.numel(),), lr, dtype=torch.float64) for t, lr in zip(tensors, each, strict=True)])
    mean = 0.0
    for _ in range(6):
        for t in tensors:
            t.grad = torch.randn_like(t)
        gradient = flat([t.grad for t in tensors])  # type: ignore[misc]
        total = gradient + decay * w
        mean = alpha * mean + (1 - alpha) * float(total.square().sum())
        wanted = w - rates * total / (math.sqrt(mean) + eps)
        w, state = rule.update(w, state, gradient)
        optimizer.step()
        torch.testing.assert_close(w, wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(flat(tensors), wanted, rtol=0, atol=1e-12)
        assert torch.allclose(state["square_avg"], rule.state()["square_avg"], atol=1e-12)
    metric = rule.metric()
    assert isinstance(metric, es.linalg.DiagonalMetric)
    scale = 2 / rates if "lr" in other else torch.ones_like(rates)  # of groups whose rates differ
    assert torch.allclose(metric.entries, scale * (math.sqrt(mean) + eps))
    assert torch.allclose(rule.diagonal(state), torch.full_like(rates, math.sqrt(mean) + eps))


def test_threshold_on_a_quadratic() -> None:
    """With the second moment held, a mode alternates exactly where its curvature is 2 P/lr."""
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = ScalarRMSProp([w], lr=0.1, alpha=1 - 1e-12, eps=1e-12)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    optimizer.state[w]["square_avg"].fill_(4.0)
    rule = rule_for(optimizer, [w])
    curvature = torch.tensor([[40.0]], dtype=torch.float64)
    value = es.top_eigenpairs(rule.effective(from_matrix(curvature)), metric=rule.metric()).values[0]
    assert float(value) == pytest.approx(rule.threshold().value)
    w.grad = curvature[0] * w.detach()
    optimizer.step()
    assert float(w.detach()) == pytest.approx(-1)


@pytest.mark.parametrize("kind", [ScalarRMSProp, torch.optim.RMSprop])
def test_second_moments_move_on_average(kind: type[torch.optim.Optimizer]) -> None:
    """v' - v = (1 - alpha)(g^2 - v) = (1 - alpha)/alpha (g^2 - v'), of the moment that the step uses."""
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = kind([w], lr=0.1, alpha=0.8)  # type: ignore[call-arg]
    rule = rule_for(optimizer, [w])
    before = None
    for _ in range(3):
        before = rule.state()["square_avg"]
        w.grad = torch.randn_like(w)
        optimizer.step()
    after = rule.state()
    assert w.grad is not None
    rate = rule.state_rate(after, w.grad.square())
    assert torch.allclose(rate["square_avg"], after["square_avg"] - before, atol=1e-14)


def test_optimizers_without_averaged_dynamics() -> None:
    w = torch.zeros(3, requires_grad=True)
    rule = rule_for(torch.optim.Adam([w]), [w])
    with pytest.raises(NotKnownError, match="the averaged dynamics of Adam"):
        rule.state_rate(rule.state(), torch.zeros(3))
    assert rule_for(torch.optim.SGD([w], lr=0.1, momentum=0.9), [w]).state_rate({}, torch.zeros(3)) == {}


def test_bad_options_are_refused() -> None:
    w = torch.zeros(3, requires_grad=True)
    with pytest.raises(InputError, match="alpha"):
        ScalarRMSProp([w], alpha=1.0)
    with pytest.raises(InputError, match=r"alpha of 0\.5 and 0\.99"):
        ScalarRMSProp([{"params": [w]}, {"params": [torch.zeros(2, requires_grad=True)], "alpha": 0.5}])
    optimizer = ScalarRMSProp([w, torch.zeros(2, requires_grad=True)])
    rule = rule_for(optimizer, [w])
    with pytest.raises(NotKnownError, match="1 parameters in it that are not in the objective"):
        rule.update(w.detach(), rule.state(), torch.zeros(3))


def test_by_name() -> None:
    w = torch.zeros(3, requires_grad=True)
    optimizer = OPTIMIZERS.build("scalar-rmsprop:alpha=0.5").build([w], lr=0.2)
    assert isinstance(optimizer, ScalarRMSProp)
    assert optimizer.param_groups[0]["alpha"] == 0.5
    optimizer.step()  # without gradients nothing happens
    assert not optimizer.state
