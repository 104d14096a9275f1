"""The density of all eigenvalues of the Hessian, by quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.linalg import spectrum
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class HessianSpectrum(Measure):
    """Arrays "nodes" and "weights" (their sum is 1) of a stochastic Lanczos quadrature, and its trace as part "trace".

    Cost: ``probes * steps`` products, so it is for a few moments of a run: ``"spectrum@1000"``.
    """

    probes: int = 2
    steps: int = 80
    seed: int = 0

    name: ClassVar[str] = "spectrum"
    title: ClassVar[str] = "Spectrum of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Ubaru, Chen and Saad 2017"
    needs: ClassVar[Needs] = "products"

    def read(self, moment: Moment) -> Reading:
        found = spectrum(moment.objective, probes=self.probes, steps=self.steps, seed=self.seed)
        return Reading(
            self.name,
            {"trace": found.trace},
            {"trace": found.trace_error},
            {"nodes": found.nodes.numpy(), "weights": found.weights.numpy()},
        )
