"""The sharpness in the optimizer's own geometry, between a value and a certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry import as_geometry, generalized_sharpness
from edgescope.measures.measure import Measure, Moment, Needs, Reading
from edgescope.measures.optimizer_geometry import geometry_of


@dataclass
class GeneralizedSharpness(Measure):
    """S = max d'Hd over ||d|| = 1 in the optimizer's geometry, or in the one that ``geometry`` names.

    Parts: "lower" is the value, its error what may be missing, "upper" the certificate (if there is one). In the
    optimizer's own geometry also "threshold", the value of S at which the optimizer turns unstable here (2/lr; for
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
        self.geometry = self.geometry.replace(";", ",")
        if self.geometry:
            as_geometry(self.geometry)
        for name, number, least in (
            ("certificate", self.certificate, 0),
            ("restarts", self.restarts, 1),
            ("iterations", self.iterations, 1),
        ):
            if number < least:
                raise InputError(f"measure '{self.name}' with {name}={number}", expected=f"at least {least}")
        if not 0 < self.tol < 1:
            raise InputError(f"measure '{self.name}' with tol={self.tol:g}", expected="a share between 0 and 1")

    def read(self, moment: Moment) -> Reading:
        operator, rule = moment.objective.operator(), None
        if self.geometry:
            geometry = as_geometry(self.geometry)
        else:
            rule = moment.known_rule()
            geometry, operator = geometry_of(rule), rule.effective(operator)
        gradient = moment.objective.gradient()
        found = generalized_sharpness(
            operator,
            geometry,
            restarts=self.restarts,
            iterations=self.iterations,
            seed=self.seed,
            start=self._found or None,
            gradient=gradient if bool(gradient.any()) else None,
            certificate=self.certificate > 0 and self._readings % self.certificate == 0,
            tol=self.tol,
        )
        self._found = self._found | found.state  # the last certificate starts the next
        self._readings += 1
        values, errors = {"lower": found.lower}, {}
        if math.isfinite(found.upper):
            values["upper"], errors["lower"] = found.upper, found.error
        limit = rule.threshold().at(gradient) if rule is not None else 0.0
        if limit > 0:
            values |= {"threshold": limit, "ratio": found.lower / limit}
            errors |= {"ratio": found.error / limit} if errors else {}
        return Reading(self.name, values, errors, note="" if found.converged else "the search had not come to rest")

    def state(self) -> dict[str, Any]:
        return {"found": dict(self._found), "readings": self._readings}

    def load_state(self, state: dict[str, Any]) -> None:
        self._found, self._readings = dict(state["found"]), state["readings"]
