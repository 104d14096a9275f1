"""The learning rate that the optimizer holds now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class LearningRate(Measure):
    """The learning rate; where parameter groups differ, part "0", "1", ... for each group."""

    name: ClassVar[str] = "learning_rate"
    title: ClassVar[str] = "Learning rate"
    unit: ClassVar[str] = "parameter² / loss"
    source: ClassVar[str] = "the optimizer's param_groups"
    needs: ClassVar[Needs] = "nothing"

    def read(self, moment: Moment) -> Reading:
        if moment.optimizer is None:
            raise NotKnownError("there is no optimizer")
        groups = moment.optimizer.param_groups
        if not all("lr" in group for group in groups):
            raise NotKnownError(f"{type(moment.optimizer).__name__} has no learning rate")
        rates = [float(group["lr"]) for group in groups]
        same = all(rate == rates[0] for rate in rates)
        return Reading(self.name, {"": rates[0]} if same else {str(i): rate for i, rate in enumerate(rates)})
