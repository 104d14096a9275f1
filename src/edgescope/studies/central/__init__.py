"""Central flows: the averaged trajectory of an optimizer past its threshold, against descent itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.central.runs import UNKNOWN, central_tasks
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.central.average_claims import OF_DESCENT, OF_MOMENTUM, OF_RMSPROP
from edgescope.studies.central.gap_claims import ON_MINI_BATCHES
from edgescope.studies.central.norm_claims import IN_OTHER_NORMS
from edgescope.studies.central.trajectory_claims import ALONG_THE_FLOW, FOLLOWING
from edgescope.studies.sources import COHEN_2024, LIAO
from edgescope.studies.study import Preset, Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


@dataclass(frozen=True)
class Central(Study):
    """Optimizers at the edge of stability beside the flows of their averages, in the Euclidean and in other norms."""

    name: ClassVar[str] = "central"
    title: ClassVar[str] = "Where an optimizer at the edge of stability goes on average"
    abstract: ClassVar[str] = (
        "Full-batch gradient descent and RMSProp on a fully connected tanh network past their thresholds, with three "
        "flows from the same parameters: the one without oscillation (gradient flow), the central flow, which predicts "
        "the average over the oscillation and its covariance, and the central flow with the second-order drift of "
        "descent. Steepest descent in Linf, sign and Spectral descent follow with a flow of two points, and SGD on "
        "mini-batches with a formula for the gap that noise leaves below 2/η. Hypotheses that were rejected before the "
        "study was written are tested too. Seeds are others than those by which the regions were chosen; network and "
        "data are the same, and in the preset full there is a second data set."
    )
    paper: ClassVar[str] = f"{COHEN_2024}; {LIAO}"
    topics: ClassVar[Sequence[Topic]] = (
        Topic("Gradient descent: how near the flow stays", FOLLOWING),
        Topic("Gradient descent: along the flow", ALONG_THE_FLOW),
        Topic("Gradient descent: averages over time", OF_DESCENT),
        Topic("Momentum", OF_MOMENTUM),
        Topic("RMSProp", OF_RMSPROP),
        Topic("Other norms", IN_OTHER_NORMS),
        Topic("Mini-batches", ON_MINI_BATCHES),
    )
    unknown: ClassVar[tuple[str, ...]] = UNKNOWN

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return central_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.central.figures import central_figures  # only here: charts take long to load

        return central_figures(runs)
