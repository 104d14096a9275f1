"""The loss, on the training data and on every further objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class LossMeasure(Measure):
    """The mean loss over all samples: part "train", and one part for each evaluation ("test")."""

    name: ClassVar[str] = "loss"
    title: ClassVar[str] = "Loss"
    unit: ClassVar[str] = "unit of the loss function"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "loss"
    of_any_model: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        objectives = {"train": moment.objective} | moment.evaluations
        return Reading(self.name, {part: float(objective.loss()) for part, objective in objectives.items()})
