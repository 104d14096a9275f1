"""A model whose own precision is not that of the measurement."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import refused
from objective_problems import labelled, mlp, relative
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.losses import supervised
from edgescope.objective import Objective

LOSS = supervised(F.cross_entropy)
PRECISIONS = [torch.float64, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("measured", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("own", PRECISIONS, ids=str)
def test_a_model_in_another_precision_than_the_measurement(own: torch.dtype, measured: torch.dtype) -> None:
    """Values that the coarser precision cannot hold, at a small loss, as they are after some training."""
    model = mlp().to(own)
    x, y = labelled(30, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(30):
        optimizer.zero_grad()
        LOSS(model, (x.to(own), y)).backward()
        optimizer.step()
    objective = Objective(model, LOSS, (x, y), dtype=measured)
    reference = mlp().to(own)
    reference.load_state_dict(model.state_dict())
    live = LOSS(reference.to(measured), (x.to(measured), y))
    assert relative(objective.loss(), live.detach()) < (1e-12 if measured == torch.float64 else 1e-6)


class KeepsItsWeight(nn.Module):
    """A layer that keeps its weight in a second place, and uses it from there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.kept: Any = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(x, self.kept[0].to(x.dtype))


@pytest.mark.parametrize("measured", [torch.float64, torch.float32], ids=str)
def test_another_way_is_seen_in_another_precision(measured: torch.dtype) -> None:
    model = KeepsItsWeight().double()
    refused(
        InputError, "'layer.weight'", "another way", make=lambda: Objective(model, LOSS, labelled(8, 4), dtype=measured)
    )
