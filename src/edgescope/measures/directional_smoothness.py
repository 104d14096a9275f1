"""The curvature that the last step actually met, and the change of loss that it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from edgescope.errors import NotKnownError
from edgescope.geometry.smoothness import ROUNDINGS, directional_smoothness
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class DirectionalSmoothness(Measure):
    """The Euclidean directional smoothness D of the last step d, and the loss change of that step.

    Parts: "" is D; "predicted" is <g, d> + D ||d||^2 / 2, which for gradient descent is -lr (1 - lr D / 2) ||g||^2;
    "actual" is the difference of the losses, its error their rounding. By differences of losses the two agree by
    definition; with ``method="products"`` D comes from Hessian products along the step alone, so that "predicted" is a
    prediction. The note names the method.

    Cost: one gradient at the point before the step, where training itself did not just compute it, and three products
    at new points where differences are too coarse, or with ``method="products"``.
    """

    method: Literal["auto", "products"] = "auto"

    name: ClassVar[str] = "directional_smoothness"
    title: ClassVar[str] = "Directional smoothness of the last step"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Mishkin et al. 2024 (arXiv 2403.04081)"
    needs: ClassVar[Needs] = "other points"
    needs_previous: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        before = moment.previous
        if before is None:
            raise NotKnownError("there is no step before the first, or none that could be seen")
        loss = float(moment.objective.loss())
        found = directional_smoothness(
            moment.objective,
            before.parameters,
            moment.parameters,
            loss_w=before.loss,
            gradient_w=before.gradient,
            loss_next=loss,
            method=self.method,
        )
        step = moment.parameters.double() - before.parameters.double()
        half = float(step @ step) / 2
        values = {
            "": found.value,
            "predicted": float(before.gradient.double() @ step) + found.value * half,
            "actual": loss - float(before.loss),
        }
        rounding = ROUNDINGS * torch.finfo(moment.parameters.dtype).eps * (abs(loss) + abs(float(before.loss)))
        errors = {"": found.error, "predicted": found.error * half, "actual": rounding}
        return Reading(self.name, values, errors, note=f"by {found.method}")
