"""Models as measures see them, for tests of measures by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgescope.losses import half_mse, supervised
from edgescope.measures import Moment
from edgescope.objective import Objective

FLOATS = [torch.float32, torch.float64]


def moment_of(model: nn.Module, data: Any, **how: Any) -> Moment:
    objective = Objective(model, how.pop("loss_fn", supervised(half_mse)), data, path="kept", threads=1, **how)
    w = objective.parameters()
    return Moment(step=0, objective=objective, optimizer=None, rule=None, parameters=w, initial=w)


class TwoLayers(nn.Module):
    """A ReLU network whose layers can be rescaled against each other without changing its function."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
        with torch.no_grad():
            self.first.weight *= factor
            self.first.bias *= factor
            self.second.weight /= factor

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))
