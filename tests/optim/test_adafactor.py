"""Adafactor and Adadelta: preconditioners with the size of a step, which depends on parameters and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_step import critical_scale, give, positive
from torch import Tensor

from edgescope.linalg.operator import from_matrix
from edgescope.optim import UpdateRule, rule_for

STILL = 2


def deviation(rule: UpdateRule, H: Tensor, gradient: Tensor) -> float:
    effective, metric = rule.effective(from_matrix(H)) @ torch.eye(len(H), dtype=torch.float64), rule.metric(gradient)
    whitened = metric.inverse_root(metric.inverse_root(effective).T)[:-STILL, :-STILL]
    return float(torch.linalg.eigvalsh(whitened)[-1]) / rule.threshold().value - 1


@pytest.mark.parametrize("shape", [(7,), (3, 3), (2, 2, 2)])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.02},  # the relative step decides
        {"lr": 0.9, "beta2_decay": -0.5},  # 1/sqrt(t) decides
        {"lr": 0.02, "eps": (None, 10.0)},  # eps2 decides
        {"lr": 0.02, "d": 100.0},  # nothing is clipped
        {"lr": 0.5, "weight_decay": 1.5, "eps": (1e-2, 1e-3)},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_size_of_a_step_is_in_the_preconditioner(shape: Any, options: dict[str, Any], seed: int) -> None:
    """Two entries that are large and have a large gradient, without curvature, fix RMS w and RMS u."""
    torch.manual_seed(seed)
    p = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adafactor([p], **options)
    for _ in range(5):
        p.grad = torch.randn_like(p)
        optimizer.step()
    size = p.numel()
    with torch.no_grad():
        p.zero_()
        p.view(-1)[-STILL:] = 7.0
    drift = torch.zeros(size, dtype=torch.float64)
    drift[-STILL:] = 30.0
    H = torch.zeros(size, size, dtype=torch.float64)
    H[:-STILL, :-STILL] = positive(size - STILL, seed)
    if len(shape) > 1:  # where rows and columns of a matrix share the moments of the entries that drift
        H[:-STILL, :-STILL] += torch.eye(size - STILL, dtype=torch.float64)
    critical = critical_scale([p], [optimizer], H, drift=drift, still=STILL)
    assert abs(deviation(rule_for(optimizer, [p]), critical * H, drift)) < 1e-6


def test_in_closed_form_and_from_the_live_gradient() -> None:
    """After a step the gradient that is still there, and the parameters, give the rate of the step."""
    p = torch.full((4,), 2.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adafactor([p], lr=0.01, d=1.0, beta2_decay=-0.5)
    for gradient in (1.0, 3.0):
        give([p], torch.full((4,), gradient, dtype=torch.float64))
        optimizer.step()
    rule = rule_for(optimizer, [p])
    second = 1 + (9 - 1) * 2**-0.5  # of the second step, v = g^2 at the first
    update = 3 / second**0.5
    alpha = float(p.detach().abs()[0]) * 0.01 / update  # RMS u above d = 1
    metric, unit = rule.metric(), torch.ones(4, 1, dtype=torch.float64)
    ours = metric.root(metric.root(unit))  # P
    torch.testing.assert_close(ours, unit * second**0.5 * 0.01 / alpha)
    assert rule.threshold().value * float(ours[0]) == pytest.approx(2 / alpha * second**0.5)  # of H itself
    assert rule.threshold().formula == "2/η"


def test_state_of_factored_moments_is_written_out() -> None:
    torch.manual_seed(0)
    p = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    q = torch.randn(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adafactor([p, q], lr=0.1)
    rule = rule_for(optimizer, [p, q])
    assert rule.vectors() == ("row_var", "col_var", "variance")
    assert rule.layout() == {
        "parameters": [True, True], "row_var": [True, False], "col_var": [True, False], "variance": [False, True]
    }  # fmt: skip
    p.grad, q.grad = torch.randn_like(p), torch.randn_like(q)
    optimizer.step()
    state, kept = rule.state(), optimizer.state[p]
    torch.testing.assert_close(state["row_var"][:6].view(2, 3), kept["row_var"].expand(2, 3))
    torch.testing.assert_close(state["col_var"][:6].view(2, 3), kept["col_var"].expand(2, 3))
    torch.testing.assert_close(state["variance"][6:], optimizer.state[q]["variance"])
    assert state["row_var"].shape == (8,)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_adadelta_has_the_accumulator_from_before_the_step(rho: float) -> None:
    torch.manual_seed(0)
    p = torch.randn(9, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adadelta([p], lr=0.7, rho=rho, eps=1e-2, weight_decay=0.3)
    for _ in range(4):
        p.grad = torch.randn_like(p)
        optimizer.step()
    rule, gradient, before = rule_for(optimizer, [p]), torch.randn(9, dtype=torch.float64), p.detach().clone()
    metric, driving = rule.metric(gradient), gradient + 0.3 * before
    p.grad = gradient.clone()
    optimizer.step()
    inverse = metric.inverse_root(metric.inverse_root(driving[:, None]))[:, 0]
    torch.testing.assert_close(before - p.detach(), 0.7 * inverse)
