"""The sharpness dimension: what the whole spectrum of the update says of generalization, and what else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.dimension.claims import TUCI, dimension_findings
from edgescope.studies.dimension.pictures import dimension_figures
from edgescope.studies.dimension.runs import dimension_tasks
from edgescope.studies.dimension.stack import StackTask
from edgescope.studies.study import Preset, Study
from edgescope.sweep import Task


@dataclass(frozen=True)
class Dimension(Study):
    """Sharpness dimension against the generalization gap, over learning rates and batch sizes, beside its rivals.

    ``images`` and ``text`` are the data: another image set ("dimension:images=mnist:FOLDER"), another text file
    ("dimension:text=text:FILE").
    """

    images: str = "fashion-5k"
    text: str = "licence"

    name: ClassVar[str] = "dimension"
    title: ClassVar[str] = "The dimension of the optimizer's attractor and the generalization gap"
    abstract: ClassVar[str] = (
        "Networks trained by mini-batch descent with cross-entropy over a grid of learning rates and batch sizes, "
        "those of one batch size together. At the end of each run the sharpness dimension is found from whole spectra "
        "of mini-batch Hessians in float64, exactly and by three quadrature estimators, and beside it what competes "
        "with it. Rank correlations with the accuracy gap and the loss gap decide; learning rate and batch size are "
        "then taken out. The paper's networks see 28 x 28 digits of MNIST, these here pooled and fewer images, of "
        "Fashion-MNIST unless told otherwise; its grid values are not published."
    )
    paper: ClassVar[str] = TUCI

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return dimension_tasks(preset, seed, self.images, self.text)

    def records(self, tasks: Sequence[Task], folder: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for task in tasks:
            if isinstance(task, StackTask):
                cells = task.configurations()
                found |= {f"{task.name}-{cell}": folder / task.name / cell for cell in cells}
            else:
                found[task.name] = folder / task.name
        return found

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return dimension_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return dimension_figures(runs)
