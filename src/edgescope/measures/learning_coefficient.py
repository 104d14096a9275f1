"""The local learning coefficient along a run: half an effective number of parameters, by Langevin sampling."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields
from edgescope.phases.chain_options import CHECKS, ChainOptions
from edgescope.phases.learning_coefficient import local_coefficient


@dataclass
class LearningCoefficientMeasure(Measure):
    """n β (E L(w) - L(w*)) over Langevin chains that ``gamma`` holds near the present parameters w*.

    Parts: "" is the estimate; "first_half" and "second_half" those of the halves of the chains, "r_hat" and
    "r_hat_distance" the split R-hat of the loss and of the squared distance from w*, "above_minimum" by how much, at
    least, it is too low because the loss is not at a minimum, "relaxation" the steps in which flat directions forget
    where they began; with ``half_step`` also "half_step" and "extrapolated", to step 0. Errors are standard errors over
    chains and over time. Without a value where the chains have not mixed, as the note says.

    The other options are those of :func:`edgescope.learning_coefficient`, with a larger ``gamma`` by default so that a
    reading takes hundreds of steps: it counts curvatures above gamma/(n β) alone. It is that of the loss of the
    objective, without the weight decay of the optimizer. The same noise is drawn at every reading.

    Cost: ``chains`` times (``times`` + ``burn_in``) (1 + n β λ_max/gamma)/(2 ``share``) gradients, and some 200
    products.
    """

    gamma: float = 100.0
    beta: float | None = None
    n: int | None = None
    chains: int = 4
    times: float = 8.0
    burn_in: float = 2.0
    share: float = 0.1
    half_step: bool = False
    batch: int | None = None
    max_steps: int = 10_000
    seed: int = 0

    name: ClassVar[str] = "learning_coefficient"
    title: ClassVar[str] = "Local learning coefficient"
    unit: ClassVar[str] = "parameters / 2 (r_hat: 1, relaxation: steps)"
    source: ClassVar[str] = "Lau et al. 2023 (arXiv 2308.12108)"
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", **CHECKS)

    def check_problem(self, size: ProblemSize) -> None:
        size.fits_samples(f"measure '{self.name}'", "batch", self.batch)
        size.require_vectors(f"measure '{self.name}' with chains={self.chains}", 8 * self.chains, "fewer chains")

    def expected_cost(self, size: ProblemSize) -> Cost:
        times = self.times + self.burn_in + (1 + self.times) * 2 * self.half_step
        share = 1.0 if self.batch is None or size.samples is None else self.batch / size.samples
        steps = times * 5 / (2 * self.share)  # n β λ_max is about four times gamma where it is chosen by the cost
        return Cost(gradients=round(self.chains * share * steps), products=200)

    def read(self, moment: Moment) -> Reading:
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        found = local_coefficient(moment.objective, ChainOptions(**options))
        if found.status != "mixed":
            raise NotKnownError(found.reason)
        values = {
            "": found.value,
            "first_half": found.halves[0],
            "second_half": found.halves[1],
            "r_hat": found.r_hat,
            "r_hat_distance": found.r_hat_distance,
            "above_minimum": found.above_minimum,
            "relaxation": found.relaxation,
        }
        errors = {"": found.error}
        if found.half_step is not None:
            values |= {"half_step": found.half_step.value, "extrapolated": found.half_step.extrapolated}
            errors |= {"half_step": found.half_step.error, "extrapolated": found.half_step.extrapolated_error}
        return Reading(self.name, values, errors, note=found.reason)
