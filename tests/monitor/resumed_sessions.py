"""Sessions of a run that is continued, for tests of monitors."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from monitor_runs import backward
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from edgescope.monitor import Monitor

ALL = [
    "loss",
    "gradient_norm",
    "sharpness:k=2",
    "effective_sharpness",
    "threshold",
    "ratio",
    "step_ratio",
    "time",
    "norms",
]
MAKE: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda model: Adam(model.parameters(), lr=0.02),
}


def train(monitor: Monitor, model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    for _ in range(steps):
        model.zero_grad()
        backward(model)
        optimizer.step()
        monitor.step()


def through_a_file(thing: Any) -> Any:
    content = io.BytesIO()
    torch.save(thing, content)
    content.seek(0)
    return torch.load(content, weights_only=True)
