"""The Frobenius norm of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.cost import Cost
from edgescope.linalg import frobenius
from edgescope.linalg.sketch import MIN_MATVECS
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, integer


@dataclass
class HessianFrobenius(Measure):
    """||H||_F by Hutch++ of H², drawn from ``seed`` at every step, with one standard error (of sampling and rounding).

    Cost: ``num_matvecs`` products.
    """

    num_matvecs: int = 30
    seed: int = 0

    name: ClassVar[str] = "hessian_frobenius"
    title: ClassVar[str] = "Frobenius norm of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Meyer, Musco, Musco and Woodruff 2021, Algorithm 1"
    needs: ClassVar[Needs] = "products"
    renamed_options: ClassVar[dict[str, str]] = {"probes": "num_matvecs=, the number of products (3 for each probe)"}

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", num_matvecs=integer(MIN_MATVECS))

    def check_problem(self, size: ProblemSize) -> None:
        vectors = min(4 * (self.num_matvecs // 3), 2 * size.parameters)  # of a small one all columns, and their images
        size.require_vectors(f"measure '{self.name}' with {self.num_matvecs:,} products", vectors, "fewer products")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=self.num_matvecs)

    def read(self, moment: Moment) -> Reading:
        found = frobenius(moment.objective, num_matvecs=self.num_matvecs, seed=self.seed)
        return Reading(self.name, {"": found.value}, {"": found.error})
