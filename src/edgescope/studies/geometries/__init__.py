"""Descent in other norms: every geometry has an edge of stability of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.geometries.claims import geometry_findings
from edgescope.studies.geometries.claims_beside import CHEN
from edgescope.studies.geometries.descents import ISLAMOV
from edgescope.studies.geometries.pictures import geometry_figures
from edgescope.studies.geometries.runs import BELOW, geometry_tasks
from edgescope.studies.study import Preset, Study
from edgescope.sweep import Task


@dataclass(frozen=True)
class Geometries(Study):
    """Descent in seven geometries on three kinds of network, each against its own sharpness, between two bounds."""

    name: ClassVar[str] = "geometries"
    title: ClassVar[str] = "Descent in any norm runs at its own edge of stability"
    abstract: ClassVar[str] = (
        "Full-batch descent in the Euclidean, a preconditioned, the Linf, the block and the Spectral norm, and "
        "normalized "
        "Linf (sign) and Spectral descent: a fully connected and a convolutional network on Fashion-MNIST images "
        "(tanh, "
        "half-squared loss), and a character transformer on the text of the Apache License (cross-entropy). Sharpness "
        "is "
        "the largest d'Hd over the unit sphere of the method's own norm, held between a value from below and a "
        "certificate from above. The paper does not give its learning rates; here one rule sets all of them: at the "
        f"start the threshold is {BELOW:g} times the sharpness in the method's own geometry."
    )
    paper: ClassVar[str] = f"{ISLAMOV}; {CHEN}"

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return geometry_tasks(preset, seed)

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return geometry_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return geometry_figures(runs)
