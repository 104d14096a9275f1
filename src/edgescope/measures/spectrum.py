"""The density of all eigenvalues of the Hessian, by quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.cost import Cost
from edgescope.linalg import spectrum
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, integer


@dataclass
class HessianSpectrum(Measure):
    """Arrays "nodes" and "weights" (their sum is 1) of a stochastic Lanczos quadrature, and its trace as part "trace".

    Cost: ``probes * steps`` products, so it is for a few steps of a run: ``"spectrum@1000"``.
    """

    probes: int = 2
    steps: int = 80
    seed: int = 0

    name: ClassVar[str] = "spectrum"
    title: ClassVar[str] = "Spectrum of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Ubaru, Chen and Saad 2017"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", probes=integer(1), steps=integer(1))

    def check_problem(self, size: ProblemSize) -> None:
        steps = min(self.steps, size.parameters)  # a probe at a time, where more do not fit
        size.require_vectors(f"measure '{self.name}' with {self.steps:,} steps", steps, "fewer steps")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=self.probes * self.steps)

    def read(self, moment: Moment) -> Reading:
        found = spectrum(moment.objective, probes=self.probes, steps=self.steps, seed=self.seed)
        return Reading(
            self.name,
            {"trace": found.trace},
            {"trace": found.trace_error},
            {"nodes": found.nodes.numpy(), "weights": found.weights.numpy()},
        )
