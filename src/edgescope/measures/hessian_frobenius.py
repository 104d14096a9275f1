"""The Frobenius norm of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.linalg import frobenius
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class HessianFrobenius(Measure):
    """||H||_F by Hutch++ of H², its error the standard error over ``probes``, drawn from ``seed`` anew at every step.

    Cost: 3 ``probes`` products.
    """

    probes: int = 10
    seed: int = 0

    name: ClassVar[str] = "hessian_frobenius"
    title: ClassVar[str] = "Frobenius norm of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Meyer, Musco, Musco and Woodruff 2021, Algorithm 1"
    needs: ClassVar[Needs] = "products"

    def read(self, moment: Moment) -> Reading:
        found = frobenius(moment.objective, probes=self.probes, seed=self.seed)
        return Reading(self.name, {"": found.value}, {"": found.standard_error})
