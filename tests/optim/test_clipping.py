"""Clipping by norm before and after momentum: one-step maps with ||g|| held fixed by a drift, and runs beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from one_step import critical_scale, draw_tensors, flat, positive, settle, train
from torch import Tensor, optim

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.operator import from_matrix
from edgescope.optim import rule_for
from edgescope.optim.clipping import clip_factor, clipped_threshold, step_factor

BASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    (optim.RMSprop, {"lr": 0.02, "momentum": 0.5}),
    (optim.Adam, {"lr": 0.02, "weight_decay": 0.1}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 2.0}),
    (optim.NAdam, {"lr": 0.02}),
]
STILL = 2


def drifting(
    base: Any, options: dict[str, Any], seed: int
) -> tuple[list[Tensor], torch.optim.Optimizer, Tensor, Tensor]:
    """Parameters of which the last two have a constant gradient and no curvature, so that its norm stays."""
    torch.manual_seed(seed)
    tensors = draw_tensors()
    optimizer = base([{"params": tensors[:1]}, {"params": tensors[1:], "lr": options["lr"] / 2}], **options)
    train(tensors, [optimizer], 5, seed)
    settle(tensors, [optimizer])
    H = torch.zeros(13, 13, dtype=torch.float64)
    H[:-STILL, :-STILL] = positive(13 - STILL, seed)
    drift = torch.zeros(13, dtype=torch.float64)
    drift[-STILL:] = 3.0
    return tensors, optimizer, H, drift


@pytest.mark.parametrize(("base", "options"), BASES)
@pytest.mark.parametrize("c", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_before_the_optimizer(base: Any, options: dict[str, Any], c: float, seed: int) -> None:
    """The preconditioner is made of the clipped gradients; decay is added to the gradient after it was clipped."""
    tensors, optimizer, H, drift = drifting(base, options, seed)

    def clip() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, c)

    critical = critical_scale(tensors, [optimizer], H, drift=drift, still=STILL, before_step=clip)
    rule, factor = rule_for(optimizer, tensors), clip_factor(drift, c)
    assert factor == pytest.approx(min(1, c / float(drift.norm())), rel=1e-6)
    effective = rule.effective(from_matrix(critical * H), factor) @ torch.eye(13, dtype=torch.float64)
    metric = rule.metric(factor * drift)
    if metric is not None:
        effective = metric.inverse_root(metric.inverse_root(effective).T)
    moving = effective[:-STILL, :-STILL]
    threshold = clipped_threshold(rule, drift, c)
    assert float(torch.linalg.eigvalsh(moving)[-1]) / threshold.value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "times"), [({}, 2.0), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8)]
)
def test_in_closed_form(options: dict[str, Any], times: float) -> None:
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    gradient = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    threshold = clipped_threshold(rule_for(optim.SGD([p], lr=0.1, **options), [p]), gradient, 0.5)
    assert threshold.value == pytest.approx(times * 5 / (0.1 * 0.5), rel=1e-6)
    unclipped = clipped_threshold(rule_for(optim.SGD([p], lr=0.1, **options), [p]), gradient, 7.0)
    assert unclipped.value == pytest.approx(times / 0.1)


@pytest.mark.parametrize("c", [0.05, 2.5])
def test_descent_beyond_the_threshold_settles_where_the_threshold_is_the_curvature(c: float) -> None:
    h, lr = 50.0, 0.1
    w = torch.full((1,), 0.3, dtype=torch.float64, requires_grad=True)
    optimizer = optim.SGD([w], lr=lr)
    for _ in range(2000):
        w.grad = h * w.detach()
        torch.nn.utils.clip_grad_norm_([w], c)
        optimizer.step()
    size = h * abs(w.item())
    # Within a clipped step the point moves by eta c whatever it is: it goes to and fro between w and w - eta c.
    w.grad = h * w.detach()
    other = h * abs(abs(w.item()) - lr * c)
    assert (size + other) / 2 == pytest.approx(h * lr * c / 2, rel=1e-9)
    mean = torch.tensor([(size + other) / 2], dtype=torch.float64)
    assert clipped_threshold(rule_for(optimizer, [w]), mean, c).value == pytest.approx(h, rel=1e-4)


@pytest.mark.parametrize(("base", "options"), [case for case in BASES if case[0] is not optim.AdamW])
@pytest.mark.parametrize("c", [1e-3, 0.05])
def test_after_momentum_the_recorded_step_has_the_factor(base: Any, options: dict[str, Any], c: float) -> None:
    tensors, optimizer, H, drift = drifting(base, options | {"weight_decay": 0.0}, 0)
    rule, before = rule_for(optimizer, tensors), flat(tensors)
    predicted = rule.update(before, rule.state(), drift)[0] - before
    clipped = clipping_steps(optimizer, tensors, c)
    critical = critical_scale(tensors, [clipped], H, drift=drift, still=STILL)
    for t, g in zip(tensors, rule.split(drift), strict=True):
        t.grad = g.clone()
    clipped.step()
    factor = step_factor(flat(tensors) - before, predicted)
    assert factor == pytest.approx(min(1.0, c / float(predicted.norm())), rel=1e-8)
    with torch.no_grad():
        for t, values in zip(tensors, rule.split(before), strict=True):
            t.copy_(values)
    tensors, optimizer, H, drift = drifting(base, options | {"weight_decay": 0.0}, 0)
    rule = rule_for(optimizer, tensors)
    effective = rule.effective(from_matrix(critical * H)) @ torch.eye(13, dtype=torch.float64)
    metric = rule.metric(drift)
    if metric is not None:
        effective = metric.inverse_root(metric.inverse_root(effective).T)
    value = float(torch.linalg.eigvalsh(effective[:-STILL, :-STILL])[-1])
    assert value / (rule.threshold().value / factor) == pytest.approx(1, abs=1e-6)


def clipping_steps(optimizer: Any, tensors: list[Tensor], c: float) -> Any:
    """The optimizer with the step of all parameters together clipped to the length c after it is worked out."""
    plain: Callable[[], None] = optimizer.step

    class Clipped:
        param_groups, state = optimizer.param_groups, optimizer.state

        def step(self) -> None:
            before = [t.detach().clone() for t in tensors]
            plain()
            with torch.no_grad():
                length = float(torch.cat([(t - b).flatten() for t, b in zip(tensors, before, strict=True)]).norm())
                for t, b in zip(tensors, before, strict=True):
                    t.copy_(b + min(1.0, c / length) * (t - b))

    return Clipped()


def test_what_is_not_known_or_wrong_is_one_line() -> None:
    ones = torch.ones(13, dtype=torch.float64)
    with pytest.raises(NotKnownError, match=r"not the rule's times a factor \(cosine 0.277\)"):
        step_factor(torch.eye(13, dtype=torch.float64)[0], ones)
    with pytest.raises(NotKnownError, match="predicts none"):
        step_factor(ones, 0 * ones)
    with pytest.raises(InputError, match=r"steps of shapes \(13,\) and \(2,\)"):
        step_factor(ones, ones[:2])
    for c in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="max_norm"):
            clip_factor(ones, c)
    assert step_factor(0 * ones, ones) == 0
