"""Parameters of the objective that no optimizer steps: which figures are of them is said once, after the first step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monitor_runs import backward, objective_of, small
from torch import nn
from torch.optim import SGD, Adam

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor
from edgescope.objective import Objective

HELD: dict[str, Callable[[nn.Module], list[torch.optim.Optimizer]]] = {
    "head": lambda model: [SGD(model[2].parameters(), lr=0.1)],  # type: ignore[index]
    "two of three tensors": lambda model: [SGD([model[0].weight], lr=0.1), Adam([model[2].bias])],  # type: ignore[index]
    "all": lambda model: [SGD(model.parameters(), lr=0.1)],
    "all, by two": lambda model: [SGD(model[0].parameters(), lr=0.1), Adam(model[2].parameters())],  # type: ignore[index]
}


def told(model: nn.Module, objective: Objective, optimizers: list[torch.optim.Optimizer], **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        monitor = Monitor(objective, optimizers, every=1, measures=["loss"], **options)
        for _ in range(4):
            model.zero_grad()
            backward(model)
            for optimizer in optimizers:
                optimizer.step()
            monitor.step()
        monitor.close()
    return [str(one.message) for one in caught if "no optimizer steps" in str(one.message)]


@pytest.mark.parametrize("name", HELD)
def test_parameters_that_no_optimizer_steps_are_told_of_once(name: str) -> None:
    model = small()
    optimizers = HELD[name](model)
    texts = told(model, objective_of(model), optimizers)
    held = {id(p) for one in optimizers for group in one.param_groups for p in group["params"]}
    left = [p.numel() for p in model.parameters() if id(p) not in held]
    if not left:
        assert texts == []
        return
    total = sum(p.numel() for p in model.parameters())
    assert len(texts) == 1
    assert texts[0].startswith(f"no optimizer steps {sum(left)} of the {total} parameters")
    assert "try params=optimizer" in texts[0]


def test_nothing_is_told_of_an_objective_of_the_parameters_that_are_stepped() -> None:
    model = small()
    optimizers = HELD["head"](model)
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    objective = Objective(
        model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), (x, y), params=optimizers[0], threads=1
    )
    assert told(model, objective, optimizers) == []
