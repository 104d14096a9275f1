"""How far the parameters move in a step, and how unusual that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import By, blocks_of
from edgescope.measures.reading import Reading
from edgescope.measures.step_norms import ENOUGH, StepNorms
from edgescope.objective import Objective
from edgescope.options import check_fields, integer


@dataclass
class UpdateNorm(Measure):
    """The norm of the last step, whatever took it.

    Parts: "" is ||d||, "relative" is it over the norm of the parameters that it has led to, and "over_median" over the
    median norm of the ``window`` steps before (of at least 10): far above 1 where updates grow, as before many spikes
    of adaptive optimizers. ``by`` "tensors" or "layers": also "norm/BLOCK", "relative/BLOCK" and "over_median/BLOCK".

    Every step enters the median, also those without a reading. Cost: a copy of the parameters and a norm at each step.
    """

    by: By = "none"
    window: int = 100
    _steps: StepNorms = field(init=False, repr=False)

    name: ClassVar[str] = "update_norm"
    title: ClassVar[str] = "Norm of the last step"
    unit: ClassVar[str] = "parameter (relative, over_median: 1)"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it compares the parameters before and after an optimizer step"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", window=integer(ENOUGH))
        self._steps = StepNorms(self.window, lambda layout: blocks_of(layout, self.by))

    def follow(self, step: int, objective: Objective) -> None:
        self._steps.follow(objective)

    def read(self, moment: Moment) -> Reading:
        if not self._steps.norms.get(""):
            raise NotKnownError("no step was seen yet")
        sizes = self._steps.of_blocks(moment.parameters.double(), moment.objective.layout)
        values: dict[str, float] = {}
        for name, (*_, norm) in self._steps.norms.items():
            if not math.isfinite(norm):
                raise NotKnownError("the parameters are not finite")
            end = f"/{name}" if name else ""
            values[f"norm{end}" if name else ""] = norm
            if sizes[name] > 0:
                values[f"relative{end}"] = norm / sizes[name]
            over = self._steps.over_median(name)
            if over is not None:
                values[f"over_median{end}"] = over
        return Reading(self.name, values)

    def state(self) -> dict[str, Any]:
        return self._steps.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._steps.load_state(state)
