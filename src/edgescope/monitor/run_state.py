"""How far a run has come: the steps that are over, and what the readings so far have found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgescope.measures import Reading


@dataclass
class RunState:
    """How far a run has come.

    ``step`` is the number of steps that are over, ``time`` the sum of the learning rates of these (None where they
    differ). ``started``: step 0 is over, or the step at which the run is continued. ``initial`` are the parameters
    before the first step that was seen, which is step 0 where ``from_the_start``. ``latest`` has the last reading of
    each measure, and ``taken`` names the measures that were taken at this step.
    """

    step: int = 0
    time: float | None = 0.0
    started: bool = False
    diverged: bool = False
    initial: Tensor | None = None
    from_the_start: bool = True
    latest: dict[str, Reading] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def continue_at(self, step: int) -> None:
        """Continue after so many steps, of which nothing else is known."""
        self.step = step
        self.from_the_start = not step
        if step:
            self.time = None

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs."""
        latest = {n: {"values": r.values, "errors": r.errors, "note": r.note} for n, r in self.latest.items()}
        return {
            "steps": self.step,
            "taken": self.taken,
            "diverged": self.diverged,
            "time": self.time,
            "started": self.started,
            "initial": self.initial,
            "from_the_start": self.from_the_start,
            "latest": latest,
        }

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from a state that :meth:`state` gave."""
        self.step, self.diverged, self.time = state["steps"], state["diverged"], state["time"]
        self.taken = list(state.get("taken", []))
        self.initial = None if state["initial"] is None else state["initial"].to(device)
        self.started = state.get("started", self.initial is not None or self.step > 0)
        self.from_the_start = state.get("from_the_start", True)
        self.latest = {name: Reading(name, **reading) for name, reading in state["latest"].items()}
