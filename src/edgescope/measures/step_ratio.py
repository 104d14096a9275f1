"""The last step compared with that of the optimizer's rule, and its gradient with that of the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import By, blocks_of
from edgescope.measures.reading import Reading
from edgescope.options import check_fields


@dataclass
class StepRatio(Measure):
    """How the last step compares with the optimizer's rule, and its gradient with that of the objective.

    Part "" is <d, r> / ||r||^2 for the step d that was taken and the step r of the rule on the same gradient: 1 where
    the optimizer does what its rule says, less where steps are scaled down or lost in the rounding of the parameters
    (its error says how much of it rounding makes). "cosine" is that of the angle between d and r. "gradient" is
    <g, G> / ||G||^2 for the gradient g of training and G of the objective where the step began: below 1 where gradients
    are clipped, the number of samples where a sum is trained; "gradient_cosine" is 1 on the full batch, and less in
    mini-batches. Steps that were taken with a closure have the gradient of its last call.

    ``by`` "tensors" or "layers": also "step/BLOCK", "cosine/BLOCK", "gradient/BLOCK" and "gradient_cosine/BLOCK", the
    same of the entries of each block, where the vectors have any that is not zero.

    Cost: one gradient where the step began, unless another measure takes it, and the arithmetic of one step; with
    ``by`` six inner products of vectors of all parameters beside.
    """

    by: By = "none"

    name: ClassVar[str] = "step_ratio"
    title: ClassVar[str] = "Step taken over step of the rule"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it compares an optimizer step with the optimizer's rule"
    needs_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'")

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
        values |= self._of_blocks(moment)
        errors = {"": taken.error} if taken.length is not None and taken.error is not None else {}
        missing = "" if taken.length is not None else "no step of a rule to compare with, or a step of length 0"
        return Reading(self.name, values, errors, note="; ".join(filter(None, [missing, moment.scale_note()])))

    def _of_blocks(self, moment: Moment) -> dict[str, float]:
        last, previous = moment.last, moment.previous
        if self.by == "none" or last is None or last.start is None:
            return {}
        ruled, training = last.of_the_rule(), last.gradient()
        values: dict[str, float] = {}
        step = moment.parameters.double() - last.start.double()
        gradient = None if previous is None else previous.gradient.double()
        for name, places in blocks_of(moment.objective.layout, self.by).items():
            if ruled is not None:
                values |= _compared(step, ruled.to(step), places, f"step/{name}", f"cosine/{name}")
            if training is not None and gradient is not None:
                found = training.to(gradient)
                values |= _compared(found, gradient, places, f"gradient/{name}", f"gradient_cosine/{name}")
        return values


def _compared(
    found: Float[Tensor, " P"], expected: Float[Tensor, " P"], places: list[slice], factor: str, cosine: str
) -> dict[str, float]:
    """By what factor a vector is the other one at these places, and the cosine between them; what is defined of it."""
    product = sum(float(found[place] @ expected[place]) for place in places)
    square = sum(float(expected[place] @ expected[place]) for place in places)
    length = sum(float(found[place] @ found[place]) for place in places)
    if not square > 0:
        return {}
    return {factor: product / square} | ({cosine: product / (square * length) ** 0.5} if length > 0 else {})
