"""The meter of an objective counts every pass over its data, once."""

from __future__ import annotations

import torch

import edgescope as es
from edgescope.cost import Cost, Meter


def test_a_meter_adds_up_and_tells_what_came_since() -> None:
    meter = Meter()
    assert meter.total == Cost()
    meter.count(losses=2)
    before = meter.total
    meter.count(gradients=1, products=3)
    meter.add(Cost(1, 1, 1))
    assert meter.total == Cost(3, 2, 4)
    assert meter.since(before) == Cost(1, 2, 4)


def test_what_an_objective_has_spent_is_what_its_meter_counted() -> None:
    torch.manual_seed(0)
    data = (torch.randn(8, 3), torch.randn(8, 1))
    objective = es.Objective(torch.nn.Linear(3, 1), es.supervised(torch.nn.functional.mse_loss), data)
    assert objective.spent == objective.meter.total == Cost(preparation=objective.spent.preparation)
    assert objective.spent.preparation > 0
    objective.gradient()
    objective.loss()  # known after the gradient
    before = objective.meter.total
    objective.hvp(torch.eye(4)[:, :3])
    assert objective.spent.gradients >= 1
    assert objective.meter.since(before).products == 3
