"""The edge of stability: sharpness rises to the threshold of the optimizer, stays there, and the loss still falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.edge import mini_batch_runs
from edgescope.experiments.edge.mini_batch_runs import mini_batch_tasks
from edgescope.experiments.edge.multiplier_runs import multiplier_tasks
from edgescope.experiments.edge.optimizer_runs import UNKNOWN as UNKNOWN_OF_OPTIMIZERS
from edgescope.experiments.edge.optimizer_runs import optimizer_tasks
from edgescope.experiments.edge.runs import UNKNOWN, edge_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.edge.claims import TOPICS
from edgescope.studies.edge.mini_batch_claims import HEADROOM_CLAIMS, SETTLING_CLAIMS
from edgescope.studies.edge.multiplier_claims import MULTIPLIER_CLAIMS
from edgescope.studies.edge.optimizer_claims import OPTIMIZER_TOPICS
from edgescope.studies.sources import COHEN_2021, COHEN_2022
from edgescope.studies.study import Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


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
        "follow on a smaller network, with the headroom of their steps, which needs no threshold. Small networks on "
        "mini-batches show where SGD settles there, and whether learning rates by layer train faster."
    )
    paper: ClassVar[str] = f"{COHEN_2021}; {COHEN_2022}"
    topics: ClassVar[Sequence[Topic]] = (  # as in claims.toml
        *TOPICS[:-1],
        *OPTIMIZER_TOPICS,
        TOPICS[-1],
        Topic("Under mini-batches", SETTLING_CLAIMS),
        Topic("Headroom under mini-batches", HEADROOM_CLAIMS),
        Topic("Learning rates by block", MULTIPLIER_CLAIMS),
    )
    unknown: ClassVar[tuple[str, ...]] = (*UNKNOWN, *UNKNOWN_OF_OPTIMIZERS, *mini_batch_runs.UNKNOWN)

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        first = [*edge_tasks(preset, seed), *optimizer_tasks(preset, seed)]
        return [*first, *mini_batch_tasks(preset, seed), *multiplier_tasks(preset, seed)]

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.edge.figures import edge_figures  # only here: charts take long to load
        from edgescope.studies.edge.mini_batch_figures import mini_batch_figures
        from edgescope.studies.edge.optimizer_figures import optimizer_figures

        return [*edge_figures(runs), *optimizer_figures(runs), *mini_batch_figures(runs)]
