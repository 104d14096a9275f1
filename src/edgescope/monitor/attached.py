"""What the callbacks of training frameworks share: a monitor that begins when training does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from edgescope.monitor.monitor import Monitor
from edgescope.objective import Objective

Watch = Callable[[nn.Module], Objective]


class Attached:
    """Makes a :class:`Monitor` of ``watch(model)`` once model and optimizer are there, and counts optimizer steps.

    A framework reports after every batch how many optimizer steps it has taken; with accumulated gradients that is not
    one a batch.
    """

    def __init__(self, watch: Watch, options: dict[str, Any]) -> None:
        self.watch, self.options = watch, options
        self.monitor: Monitor | None = None
        self._offset = 0

    def begin(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        inner = getattr(optimizer, "optimizer", optimizer)  # wrappers of mixed precision and data parallelism
        self.monitor = Monitor(self.watch(model), inner, **self.options)
        self._offset = steps

    def advanced_to(self, steps: int) -> None:
        """Count optimizer steps up to the framework's number of them."""
        if self.monitor is not None and steps - self._offset > self.monitor.steps:
            self.monitor.step()

    def end(self, status: str = "finished") -> None:
        if self.monitor is not None:
            self.monitor.close(status)
