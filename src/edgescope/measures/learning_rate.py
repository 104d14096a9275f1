"""The present learning rate of the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class LearningRate(Measure):
    """The learning rate; where parameter groups differ, part "0", "1", ... for each group of all optimizers."""

    name: ClassVar[str] = "learning_rate"
    title: ClassVar[str] = "Learning rate"
    unit: ClassVar[str] = "parameter² / loss"
    source: ClassVar[str] = "the optimizer's param_groups"
    needs: ClassVar[Needs] = "nothing"
    of_any_model: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        optimizers = moment.optimizers or (() if moment.optimizer is None else (moment.optimizer,))
        if not optimizers:
            raise NotKnownError("there is no optimizer")
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for optimizer in optimizers:
            if not all("lr" in group for group in optimizer.param_groups):
                raise NotKnownError(f"{type(optimizer).__name__} has no learning rate")
        rates = [float(group["lr"]) for group in groups]
        same = all(rate == rates[0] for rate in rates)
        return Reading(self.name, {"": rates[0]} if same else {str(i): rate for i, rate in enumerate(rates)})
