"""What the callbacks of training frameworks share: a monitor that begins when training does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from edgescope.monitor.monitor import Monitor
from edgescope.objective import Objective
from edgescope.store.record import Status

Watch = Callable[[nn.Module], Objective]


class Attached:
    """Makes a :class:`Monitor` of ``watch(model)`` once model and optimizers are there, and calls it after steps.

    A framework reports after every batch how many optimizer steps it has taken; with accumulated gradients that is not
    one a batch. Steps themselves are counted by the monitor. Where the framework has taken some before training starts,
    it continues a run, and so does the monitor: from the state that a checkpoint has of it, else from that number.
    """

    def __init__(self, watch: Watch, options: dict[str, Any]) -> None:
        self.watch, self.options = watch, options
        self.monitor: Monitor | None = None
        self._steps = 0
        self._state: dict[str, Any] = {}

    def begin(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], steps: int) -> None:
        """Training starts, or continues after ``steps`` steps of all optimizers together."""
        before = steps // max(1, len(optimizers))
        options = self.options | ({"resume": before} if before or self._state else {})
        self.monitor = Monitor(self.watch(model), list(optimizers), **options)
        if self._state:
            self.monitor.load_state_dict(self._state)
            self._state = {}
        self._steps = steps

    def advanced_to(self, steps: int) -> None:
        """Call the monitor if the framework has taken an optimizer step since the last batch."""
        if self.monitor is not None and steps > self._steps:
            self.monitor.step()
        self._steps = steps

    def end(self, status: Status = "finished") -> None:
        """Training has ended."""
        if self.monitor is not None:
            self.monitor.close(status)

    def state_dict(self) -> dict[str, Any]:
        """The state of the monitor, for a checkpoint; empty before training."""
        return self._state if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state when training starts; at once where it has."""
        if self.monitor is not None and state:
            self.monitor.load_state_dict(state)
        else:
            self._state = dict(state)
