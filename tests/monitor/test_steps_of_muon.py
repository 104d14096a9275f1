"""Steps of Muon, whose own arithmetic is bfloat16, beside those of its rule."""

from __future__ import annotations

import pytest
import torch
from monitor_runs import backward, data, objective_of
from torch import nn
from torch.nn.functional import cross_entropy

from edgescope.errors import EdgescopeWarning
from edgescope.losses import supervised
from edgescope.monitor import Monitor
from edgescope.objective import Objective


def network(classes: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6, bias=False), nn.Tanh(), nn.Linear(6, classes, bias=False)).to(dtype)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside Adam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [3, 5])
def test_its_arithmetic_is_no_step_of_another_kind(classes: int, dtype: torch.dtype, beside: bool) -> None:
    """The rows of the output layer's gradient add up to 0 under cross-entropy, so that it has less than full rank."""
    lowest = 1.0
    for seed in range(6):
        torch.manual_seed(seed)
        model, (inputs, _) = network(classes, dtype), data(seed=seed, dtype=dtype)
        targets = torch.arange(len(inputs)) % classes
        objective = Objective(model, supervised(cross_entropy), (inputs, targets), path="kept", threads=1)
        muon = torch.optim.Muon((model[2] if beside else model).parameters(), lr=0.01)
        optimizers = [torch.optim.Adam(model[0].parameters(), lr=0.001), muon] if beside else [muon]
        monitor = Monitor(objective, optimizers, every=2, measures=["step_ratio"])
        for _ in range(10):
            model.zero_grad()
            cross_entropy(model(inputs), targets).backward()
            for optimizer in optimizers:
                optimizer.step()
            monitor.step()
            lowest = min(lowest, monitor.value("step_ratio", "cosine") or 1.0)
        assert monitor.notices.given() == []
    assert lowest < 0.99, "there was something to allow for"


def test_what_else_moves_its_parameters_is_told() -> None:
    torch.manual_seed(0)
    model, batch = network(3, torch.float64), data(dtype=torch.float64)
    optimizer = torch.optim.Muon(model.parameters(), lr=0.01)
    objective = objective_of(model, batch)
    monitor = Monitor(objective, optimizer, every=1, measures=["step_ratio"])
    noise = torch.Generator().manual_seed(0)

    def train() -> None:
        for _ in range(4):
            optimizer.zero_grad()
            backward(model, batch)
            optimizer.step()
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.003 * torch.randn(p.shape, generator=noise).to(p))
            monitor.step()

    with pytest.warns(EdgescopeWarning, match="not those of its rule"):
        train()
