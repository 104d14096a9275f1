"""The edge of stability: sharpness rises to the threshold of the optimizer, stays there, and the loss still falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.edge.claims import COHEN_2021, COHEN_2022, edge_findings
from edgescope.studies.edge.pictures import edge_figures
from edgescope.studies.edge.runs import edge_tasks
from edgescope.studies.study import Preset, Study, TrainTask


@dataclass(frozen=True)
class Edge(Study):
    """Fashion-MNIST at the edge of stability: gradient descent, momentum, adaptive methods, gradient flow."""

    name: ClassVar[str] = "edge"
    title: ClassVar[str] = "Training at the edge of stability"
    abstract: ClassVar[str] = (
        "Full-batch training of a fully connected and a convolutional network on Fashion-MNIST images, half-squared "
        "loss. The largest eigenvalue of the Hessian (the sharpness) rises until it reaches the value at which the "
        "optimizer turns unstable, and then stays there, while the loss goes on falling over long spans although "
        "single steps raise it. Each optimizer is held against its own threshold, in its own metric; gradient flow, "
        "which has none, against all of them."
    )
    paper: ClassVar[str] = f"{COHEN_2021}; {COHEN_2022}"

    def tasks(self, preset: Preset, seed: int) -> Sequence[TrainTask]:
        return edge_tasks(preset, seed)

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return edge_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return edge_figures(runs)
