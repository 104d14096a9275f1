"""Norm against sharpness: what the learning rate trades, on networks and in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.study import Preset, Study
from edgescope.studies.tradeoff.claims import tradeoff_findings
from edgescope.studies.tradeoff.curve_task import CurveTask
from edgescope.studies.tradeoff.curves import MATVEEV
from edgescope.studies.tradeoff.pictures import tradeoff_figures
from edgescope.studies.tradeoff.runs import tradeoff_tasks
from edgescope.sweep import Task


@dataclass(frozen=True)
class Tradeoff(Study):
    """Gradient flow and full-batch descent at rates over two decades, from one initialisation to one training loss."""

    name: ClassVar[str] = "tradeoff"
    title: ClassVar[str] = "What the learning rate trades: norm against sharpness"
    abstract: ClassVar[str] = (
        "Gradient flow from an initialisation to a training loss gives a critical rate, 2 over the largest sharpness "
        "on its way. From the same initialisation to the same training loss, full-batch gradient descent at rates "
        "over two decades around it (quick: for dear networks from 0.3 or 0.4 of it on): fully connected, "
        "convolutional, residual networks and vision transformers, with the half-squared loss and cross-entropy. "
        "Compared are final sharpness, norms and test loss, beside norms of averaged iterates and after a last phase "
        "of small steps, and sharpness that the scale of weights does not change. Diagonal linear networks say the "
        "same in closed form. The paper sees 5,000 images of MNIST and CIFAR-10, these networks fewer of handwritten "
        "digits and of Fashion-MNIST; its widths, rates and thresholds are not published."
    )
    paper: ClassVar[str] = MATVEEV

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return tradeoff_tasks(preset, seed)

    def records(self, tasks: Sequence[Task], folder: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for task in tasks:
            if isinstance(task, CurveTask):
                found |= {f"{task.name}/{run}": folder / task.name / run for run in task.folders()}
            else:
                found[task.name] = folder / task.name
        return found

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return tradeoff_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return tradeoff_figures(runs)
