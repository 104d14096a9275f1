"""Descent in other norms: every geometry has an edge of stability of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.geometries.runs import BELOW, UNKNOWN, geometry_tasks
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.geometries.beside_sharpness import EIGENVALUES_AND_OUTPUTS, TAYLOR_MODEL
from edgescope.studies.geometries.hovering import HOVERING
from edgescope.studies.geometries.identities import IDENTITIES, QUADRATICS
from edgescope.studies.geometries.other_methods import OTHER_METHODS
from edgescope.studies.sources import CHEN, ISLAMOV
from edgescope.studies.study import Preset, Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


@dataclass(frozen=True)
class Geometries(Study):
    """Steepest descent in seven geometries on three kinds of networks, with bounds of the sharpness in each geometry."""

    name: ClassVar[str] = "geometries"
    title: ClassVar[str] = "Descent in any norm runs at its own edge of stability"
    abstract: ClassVar[str] = (
        "Full-batch descent in the Euclidean, a preconditioned, the Linf, the block and the Spectral norm, and "
        "normalized Linf (sign) and Spectral descent: a fully connected and a convolutional network on Fashion-MNIST "
        "images (tanh, half-squared loss), and a character transformer on the text of the Apache License "
        "(cross-entropy). Sharpness is the largest d'Hd over the unit sphere of the method's own norm, known between a "
        "value from below and a certificate from above. The paper does not give its learning rates; here one rule sets "
        f"all of them: at the start the threshold is {BELOW:g} times the sharpness in the method's own geometry."
    )
    paper: ClassVar[str] = f"{ISLAMOV}; {CHEN}"
    topics: ClassVar[Sequence[Topic]] = (
        Topic("Sharpness and smoothness in each norm", HOVERING),
        Topic("Eigenvalues, outputs and directions", EIGENVALUES_AND_OUTPUTS),
        Topic("The quadratic model", TAYLOR_MODEL),
        Topic("Exact identities", IDENTITIES),
        Topic("Quadratics", QUADRATICS),
        Topic("Normalized Spectral descent and RMSProp", OTHER_METHODS),
    )
    unknown: ClassVar[tuple[str, ...]] = UNKNOWN

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return geometry_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.geometries.figures import geometry_figures  # only here: charts take long to load

        return geometry_figures(runs)
