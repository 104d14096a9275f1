"""The loss, on the training data and on every further objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class Loss(Measure):
    """The mean loss over all samples: part "train", and one part for each evaluation ("test")."""

    name: ClassVar[str] = "loss"
    title: ClassVar[str] = "Loss"
    unit: ClassVar[str] = "unit of the loss function"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "loss"

    def read(self, moment: Moment) -> Reading:
        objectives = {"train": moment.objective} | moment.evaluations
        return Reading(self.name, {part: float(objective.loss()) for part, objective in objectives.items()})
