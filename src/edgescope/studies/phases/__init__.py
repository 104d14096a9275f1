"""Phases under weight decay: what holds of first-order transitions, traps, noise-driven escape and grokking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.phases.claims import ERSOY, phase_findings
from edgescope.studies.phases.pictures import phase_figures
from edgescope.studies.phases.runs import phase_tasks
from edgescope.studies.study import Preset, Study
from edgescope.sweep import Task


@dataclass(frozen=True)
class Phases(Study):
    """First-order transitions in weight decay, hysteresis, barriers, escape, and the grokking curves they make."""

    name: ClassVar[str] = "phases"
    title: ClassVar[str] = "First-order transitions in weight decay, and whether escape from them is grokking"
    abstract: ClassVar[str] = (
        "Deep linear networks lose features in jumps as weight decay rises, and are trapped when it falls again. "
        "Chains of scalars and whole networks are simulated by the million steps: swept up and down, trapped and "
        "released under Langevin noise and under the noise of mini-batches, trained on 25 samples. What the paper says "
        "is held against closed forms derived anew, since several of its figures do not follow from its equations. "
        "Then networks with tanh and ReLU on images, and one that learns modular addition, are swept in the same way. "
        "Every mean time, slope and rate stands with its 95% interval, from a likelihood that counts runs that did not "
        "escape with the time they were watched."
    )
    paper: ClassVar[str] = ERSOY

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return phase_tasks(preset, seed)

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return phase_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return phase_figures(runs)
