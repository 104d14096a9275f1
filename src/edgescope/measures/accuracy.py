"""The share of samples classified rightly, on the training data and on every further objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class Accuracy(Measure):
    """The share, 0 to 1, of samples whose largest output is the target: parts as for the loss. Cost: one loss each."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "Accuracy"
    unit: ClassVar[str] = "share of samples"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "loss"

    def read(self, moment: Moment) -> Reading:
        objectives = {"train": moment.objective} | moment.evaluations
        return Reading(self.name, {part: objective.accuracy() for part, objective in objectives.items()})
