"""What training loops have in common. Each tells a :class:`Run` where it might call ``monitor.step()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monitor_runs import STEPS, Run, backward
from torch import nn

Loop = Callable[[Run], None]


class Loops(dict[str, Loop]):
    """Training loops by name."""

    def add(self, function: Loop) -> Loop:
        self[function.__name__] = function
        return function


def plainly(run: Run, model: nn.Module, optimizer: Any, step: Callable[[], Any] | None = None) -> None:
    run.watch(model, optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        (step or optimizer.step)()
        run.stepped()
