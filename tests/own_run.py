"""A small run of a function of the user's, never trained together with others: its bits are always the same."""

from __future__ import annotations

import torch
from torch import nn

from edgescope.losses import half_mse, supervised


def make_run() -> tuple[object, ...]:
    inputs = torch.randn(20, 6)
    targets = inputs[:, 0].gt(0).long()
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, supervised(half_mse), (inputs[:14], targets[:14]), (inputs[14:], targets[14:])
