"""The edge of stability: sharpness rises to the threshold of the optimizer, stays there, and the loss still falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.edge.optimizer_runs import UNKNOWN as UNKNOWN_OF_OPTIMIZERS
from edgescope.experiments.edge.optimizer_runs import optimizer_tasks
from edgescope.experiments.edge.runs import UNKNOWN, edge_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.edge.claims import TOPICS
from edgescope.studies.edge.optimizer_claims import OPTIMIZER_TOPICS
from edgescope.studies.sources import COHEN_2021, COHEN_2022
from edgescope.studies.study import Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import TrainTask


@dataclass(frozen=True)
class Edge(Study):
    """Fashion-MNIST at the edge of stability: gradient descent, momentum, adaptive methods, gradient flow."""

    name: ClassVar[str] = "edge"
    title: ClassVar[str] = "Training at the edge of stability"
    abstract: ClassVar[str] = (
        "Full-batch training of a fully connected and a convolutional network on Fashion-MNIST images, half-squared "
        "loss. The largest eigenvalue of the Hessian (the sharpness) rises until it reaches the value at which the "
        "optimizer becomes unstable, and then stays there, while the loss goes on falling over long spans although "
        "single steps raise it. Each optimizer is compared with its own threshold, in its own metric; gradient flow, "
        "which has none, with all of them. NAdam, Lion, SAM, clipped gradient descent and two pairs of optimizers "
        "follow on a smaller network, with the headroom of their steps, which needs no threshold."
    )
    paper: ClassVar[str] = f"{COHEN_2021}; {COHEN_2022}"
    topics: ClassVar[Sequence[Topic]] = (*TOPICS[:-1], *OPTIMIZER_TOPICS, TOPICS[-1])  # as in claims.toml
    unknown: ClassVar[tuple[str, ...]] = (*UNKNOWN, *UNKNOWN_OF_OPTIMIZERS)

    def tasks(self, preset: Preset, seed: int) -> Sequence[TrainTask]:
        return [*edge_tasks(preset, seed), *optimizer_tasks(preset, seed)]

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.edge.figures import edge_figures  # only here: charts take long to load
        from edgescope.studies.edge.optimizer_figures import optimizer_figures

        return [*edge_figures(runs), *optimizer_figures(runs)]
