"""Parameters that do not move: held by no optimizer, at learning rate 0, or without a gradient; and further ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from five_tensors import draw, give_gradients

from edgescope.errors import NotKnownError
from edgescope.linalg import DiagonalMetric, from_matrix, top_eigenpairs
from edgescope.optim import SteepestDescent, UpdateRule, rule_for

SGD, Adam, AdamW, Muon = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Muon


def test_what_one_optimizer_does_not_hold_leaves_the_operator() -> None:
    tensors = draw(0)
    head = SGD([tensors[1], tensors[3]], lr=0.5, weight_decay=0.25)
    rule = rule_for(head, tensors)
    assert rule.held == [False, True, False, True, False]
    assert (rule.threshold().value, rule.threshold().formula) == (4.0, "2/η")
    A = torch.randn(30, 30, dtype=torch.float64)
    H = A @ A.T
    moving = torch.tensor([*range(12, 17), *range(25, 27)])
    expected = torch.linalg.eigvalsh(H[moving][:, moving])[-1] + 0.25
    found = top_eigenpairs(rule.effective(from_matrix(H)), metric=rule.metric(), tol=1e-8)
    assert float(found.values[0]) == pytest.approx(float(expected), rel=1e-8)
    still = torch.ones(30, dtype=torch.bool)
    still[moving] = False
    assert float(found.vectors[still].abs().max()) == 0


def test_a_group_at_learning_rate_zero_leaves_the_operator() -> None:
    """With the others alike, threshold and formula are those of the others."""
    tensors = draw(0)
    optimizer = SGD(
        [{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.0, "momentum": 0.5}], lr=0.1, momentum=0.9
    )
    rule = rule_for(optimizer, tensors)
    assert rule.threshold().value == pytest.approx(38)
    assert rule.threshold().formula == "(2+2β)/η"
    vector = torch.ones(30, 1, dtype=torch.float64)
    expected = (torch.arange(30) < 17).double()[:, None]
    torch.testing.assert_close(rule.metric().inverse_root(vector), expected)
    torch.testing.assert_close(rule.metric().root(vector), expected)


def test_groups_that_are_added_later_are_seen() -> None:
    tensors = draw(0)
    optimizer = SGD(tensors[:1], lr=0.1)
    rule = rule_for(optimizer, tensors)
    assert sum(rule.held) == 1
    optimizer.add_param_group({"params": tensors[1:], "lr": 0.2})
    assert all(rule.held)
    assert rule.threshold().value == 1
    ones = torch.ones(30, 1, dtype=torch.float64)
    expected = torch.cat([torch.full((12,), 20.0), torch.full((18,), 10.0)]).double()[:, None]
    torch.testing.assert_close(rule.metric().root(rule.metric().root(ones)), expected)


def test_a_tensor_that_never_had_a_gradient_is_a_constant() -> None:
    tensors = draw(0)
    optimizer = Adam(tensors, lr=0.1)
    give_gradients(tensors, 0)
    tensors[0].grad = None
    optimizer.step()
    metric = rule_for(optimizer, tensors).metric()
    assert isinstance(metric, DiagonalMetric)
    assert bool(metric.entries[:12].isinf().all())
    assert bool(metric.entries[12:].isfinite().all())


@pytest.mark.parametrize(
    "mix",
    [
        lambda t: SGD(t, lr=0.0, momentum=0.9),
        lambda t: AdamW(t, lr=0.0),
        lambda t: [SGD(t[:2], lr=0.0), AdamW(t[2:], lr=0.0)],
        lambda t: SGD(t[:2], lr=0.0),
        lambda t: SteepestDescent(t, lr=0.0, geometry="linf"),
        lambda t: Muon([t[0], t[2]], lr=0.0),
    ],
)
def test_at_learning_rate_zero_the_threshold_is_infinite(mix: Any) -> None:
    tensors = draw(0)
    optimizer = mix(tensors)
    give_gradients(tensors, 0)
    for each in optimizer if isinstance(optimizer, list) else [optimizer]:
        each.step()
    rule = rule_for(optimizer, tensors)
    assert rule.threshold().value == math.inf
    assert "learning rate 0" in rule.threshold().formula
    if not isinstance(optimizer, SteepestDescent):
        metric = rule.metric()
        assert metric is None or bool(metric.root(torch.ones(30, 1, dtype=torch.float64)).isfinite().all())


def test_some_rates_zero_in_a_geometry_are_not_known() -> None:
    tensors = draw(0)

    def rule(name: str) -> UpdateRule:
        groups = [{"params": tensors[:2], "lr": 0.0}, {"params": tensors[2:]}]
        return rule_for(SteepestDescent(groups, lr=0.1, geometry=name), tensors)

    with pytest.raises(NotKnownError, match="geometry Linf where some learning rates are 0"):
        rule("linf").threshold()
    euclidean = rule("euclidean")
    assert (euclidean.threshold().value, euclidean.threshold().geometry) == (20, None)


def test_further_parameters_are_counted_and_left_out() -> None:
    tensors = draw(0)
    outside = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(2)]
    rule = rule_for(SGD([*tensors, *outside], lr=0.1), tensors)
    assert (rule.others, rule.threshold().value, rule.metric()) == (2, pytest.approx(20), None)
    both = rule_for([SGD([*tensors[:1], *outside], lr=0.1), Adam(tensors[1:])], tensors)
    assert both.others == 2
    joint = rule_for(SteepestDescent([*tensors, *outside], lr=0.1, geometry="linf"), tensors)
    with pytest.raises(NotKnownError, match="has 2 parameters in it that are not in the objective"):
        joint.threshold()
    assert rule_for(SteepestDescent([*tensors, *outside], lr=0.1), tensors).threshold().value == pytest.approx(20)
