"""The sharpness in the optimizer's own geometry, with a lower and an upper bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from edgescope.cost import Cost
from edgescope.geometry import as_geometry
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.optimizer_geometry import geometry_of
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, integer, real
from edgescope.sharpness import generalized_sharpness


@dataclass
class GeneralizedSharpnessMeasure(Measure):
    """S = max d'Hd over ||d|| = 1 in the optimizer's geometry, or in the one that ``geometry`` names.

    Parts: "lower" is the value, its error what may be missing, "upper" the certificate (if there is one). In the
    optimizer's own geometry also "threshold", the value of S at which the optimizer becomes unstable here (2/lr; for
    normalized methods 2 ||g||_*/lr, which moves with the gradient), and "ratio", lower over threshold.

    Options of a geometry are joined by ;: ``generalized_sharpness:geometry=mixed:matrices=spectral;vectors=linf``.
    Every measurement starts from the one before. ``certificate`` asks for "upper" at every so many of them, beginning
    with the first; 0 is never. Cost: some 200 to 350 products at first, then some 50, without a certificate some 10.
    """

    geometry: str = ""
    certificate: int = 1
    restarts: int = 8
    iterations: int = 50
    tol: float = 1e-3
    seed: int = 0
    _found: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _readings: int = field(default=0, init=False, repr=False)

    name: ClassVar[str] = "generalized_sharpness"
    title: ClassVar[str] = "Generalized sharpness"
    unit: ClassVar[str] = "loss / squared norm"
    source: ClassVar[str] = "Islamov et al. 2026 (arXiv 2603.05002); the upper end is this library's"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        check_fields(
            self,
            f"measure '{self.name}'",
            certificate=integer(0),
            restarts=integer(1),
            iterations=integer(1),
            tol=real(above=0, below=1),
        )
        self.geometry = self.geometry.replace(";", ",")
        if self.geometry:
            as_geometry(self.geometry)

    def check_problem(self, size: ProblemSize) -> None:
        size.require_vectors(f"measure '{self.name}' with {self.restarts:,} restarts", self.restarts, "fewer restarts")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=10 + (40 // self.certificate if self.certificate else 0))

    def read(self, moment: Moment) -> Reading:
        operator, rule = moment.objective.operator(), None
        if self.geometry:
            geometry = as_geometry(self.geometry)
        else:
            rule = moment.known_rule()
            geometry, operator = geometry_of(rule), rule.effective(operator)
        gradient = moment.objective.gradient()
        due = moment.is_due(self)  # a measure that needs this one uses the value alone
        found = generalized_sharpness(
            operator,
            geometry,
            restarts=self.restarts,
            iterations=self.iterations,
            seed=self.seed,
            start=self._found or None,
            gradient=gradient if bool(gradient.any()) else None,
            certificate=due and self.certificate > 0 and self._readings % self.certificate == 0,
            tol=self.tol,
        )
        self._found = self._found | found.state  # the last certificate starts the next
        self._readings += due
        values, errors = {"lower": found.lower}, {}
        if math.isfinite(found.upper):
            values["upper"], errors["lower"] = found.upper, found.error
        limit = rule.threshold().at(gradient) if rule is not None else 0.0
        if limit > 0:
            values |= {"threshold": limit, "ratio": found.lower / limit}
            errors |= {"ratio": found.error / limit} if errors else {}
        return Reading(self.name, values, errors, note="" if found.converged else "the search has not converged")

    def state(self) -> dict[str, Any]:
        return {"found": dict(self._found), "readings": self._readings}

    def load_state(self, state: dict[str, Any]) -> None:
        self._found, self._readings = dict(state["found"]), state["readings"]
