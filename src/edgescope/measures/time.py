"""The time of the dynamics, in which runs of different learning rates and gradient flow can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class Time(Measure):
    """The sum of the learning rates of all steps so far; for gradient flow the time that it has reached."""

    name: ClassVar[str] = "time"
    title: ClassVar[str] = "Time"
    unit: ClassVar[str] = "learning rate × steps"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065)"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it is the sum of the learning rates of all steps"
    of_any_model: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        if moment.time is None:
            raise NotKnownError(
                "the time is not known: several learning rates, no optimizer, or steps before this session"
            )
        return Reading(self.name, {"": moment.time})
