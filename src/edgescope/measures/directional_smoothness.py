"""The curvature along the last step, and the change of loss that it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.geometry import Euclidean, Geometry, as_geometry
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.optimizer_geometry import geometry_of, threshold_of_steps
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields
from edgescope.sharpness.smoothness import directional_smoothness, loss_rounding


@dataclass
class DirectionalSmoothness(Measure):
    """The directional smoothness D of the last step d, and the loss change of that step.

    In the optimizer's geometry (the Euclidean one where it has none, as the note says), or in the one that ``geometry``
    names. Parts: "" is D; "predicted" is <g, d> + D ||d||^2 / 2, which for steepest descent is -lr (1 - lr D / 2)
    ||g||_*^2; "actual" is the difference of the losses, its error their rounding. All errors are estimated bounds. In
    the optimizer's own geometry, without momentum and weight decay, also "dual_norm", ||g||_* where the step began;
    "threshold", the value of D above which the step raised the loss (2/lr; for normalized methods 2 ||g||_*/lr); and
    "ratio", D over it.

    By differences of losses predicted and actual agree by definition; with ``method="products"`` D comes from Hessian
    products along the step alone, so that "predicted" is a prediction. The note names the method.

    Cost: one gradient at the point before the step, where training itself did not just compute it. Where differences
    are too coarse, one at the point after it, which training needs next, and one between the two; where these are too
    coarse as well, or with ``method="products"``, three products at new points.
    """

    method: Literal["auto", "products"] = "auto"
    geometry: str = ""

    name: ClassVar[str] = "directional_smoothness"
    title: ClassVar[str] = "Directional smoothness of the last step"
    unit: ClassVar[str] = "loss / squared norm"
    source: ClassVar[str] = "Mishkin et al. 2024 (arXiv 2403.04081); Islamov et al. 2026 (arXiv 2603.05002)"
    needs: ClassVar[Needs] = "other points"
    needs_run: ClassVar[str] = "it compares the loss before and after an optimizer step"
    needs_previous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'")
        self.geometry = self.geometry.replace(";", ",")
        if self.geometry:
            as_geometry(self.geometry)

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(gradients=3, products=3) if self.method == "products" else Cost(gradients=1)

    def read(self, moment: Moment) -> Reading:
        before = moment.previous
        if before is None:
            raise NotKnownError("there is no step before the first, or none that could be seen")
        geometry, remark = self._geometry(moment)
        geometry = geometry.bind(moment.objective.shapes)
        loss = float(moment.objective.loss())
        found = directional_smoothness(
            moment.objective,
            before.parameters,
            moment.parameters,
            geometry,
            loss_w=before.loss,
            gradient_w=before.gradient,
            loss_next=loss,
            method=self.method,
        )
        step, gradient = moment.parameters.double() - before.parameters.double(), before.gradient.double()
        half = float(geometry.norm(step)) ** 2 / 2
        values = {
            "": found.value,
            "predicted": float(gradient @ step) + found.value * half,
            "actual": loss - float(before.loss),
        }
        rounding = loss_rounding(moment.parameters.dtype, loss, float(before.loss))
        errors = {"": found.error, "predicted": found.error * half, "actual": rounding}
        threshold = None if self.geometry or moment.rule is None or remark else threshold_of_steps(moment.rule)
        if threshold is not None:
            dual = float(geometry.dual_norm(gradient))
            limit = threshold.value * (dual if threshold.normalized else 1.0)
            values |= {"dual_norm": dual, "threshold": limit, "ratio": found.value / limit}
            errors["ratio"] = found.error / limit
        return Reading(self.name, values, errors, note=f"by {found.method}{remark}")

    def _geometry(self, moment: Moment) -> tuple[Geometry, str]:
        """The geometry, and a remark where it is not the optimizer's own."""
        if self.geometry or moment.optimizer is None:
            return as_geometry(self.geometry or "euclidean"), ""
        try:
            return geometry_of(moment.known_rule()), ""
        except EdgescopeError as error:
            return Euclidean(), f", in the Euclidean geometry ({error})"
