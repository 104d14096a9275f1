"""The last step compared with that of the optimizer's rule, and its gradient with that of the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class StepRatio(Measure):
    """How the last step compares with the optimizer's rule, and its gradient with that of the objective.

    Part "" is <d, r> / ||r||^2 for the step d that was taken and the step r of the rule on the same gradient: 1 where
    the optimizer does what its rule says, less where steps are scaled down or lost in the rounding of the parameters
    (its error says how much of it rounding makes). "cosine" is that of the angle between d and r. "gradient" is
    <g, G> / ||G||^2 for the gradient g of training and G of the objective where the step began: below 1 where gradients
    are clipped, the number of samples where a sum is trained; "gradient_cosine" is 1 on the full batch, and less in
    mini-batches. Steps that were taken with a closure have the gradient of its last call.

    Cost: one gradient where the step began, unless another measure takes it, and the arithmetic of one step.
    """

    name: ClassVar[str] = "step_ratio"
    title: ClassVar[str] = "Step taken over step of the rule"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it compares an optimizer step with the optimizer's rule"
    needs_step: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        taken = moment.taken
        if taken is None:
            raise NotKnownError("no step was seen, or its gradient was not")
        parts = {
            "": taken.length,
            "cosine": taken.cosine,
            "gradient": taken.gradient,
            "gradient_cosine": taken.gradient_cosine,
        }
        values = {part: value for part, value in parts.items() if value is not None}
        errors = {"": taken.error} if taken.length is not None and taken.error is not None else {}
        missing = "" if taken.length is not None else "no step of a rule to compare with, or a step of length 0"
        return Reading(self.name, values, errors, note="; ".join(filter(None, [missing, moment.scale_note()])))
