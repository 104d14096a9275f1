"""The training loss alone, cheap enough for every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class TrainingLoss(Measure):
    """The mean training loss, to be taken at every step (``"training_loss@1"``) so that single rises are seen.

    Cost: one gradient at these parameters. Where training asks the same objective for its gradient, as ``edgescope
    train`` does on the full batch, that is the gradient of the next step, and the measure costs nothing.
    """

    name: ClassVar[str] = "training_loss"
    title: ClassVar[str] = "Training loss at every step"
    unit: ClassVar[str] = "unit of the loss function"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "gradient"

    def read(self, moment: Moment) -> Reading:
        moment.objective.gradient()
        return Reading(self.name, {"": float(moment.objective.loss())})
