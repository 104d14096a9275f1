"""Grokking: networks that memorise addition first and understand it later, and what their measures do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.grokking.claims import TUCI, grokking_findings
from edgescope.studies.grokking.pictures import grokking_figures
from edgescope.studies.grokking.runs import grokking_tasks
from edgescope.studies.study import Preset, Study, TrainTask


@dataclass(frozen=True)
class GrokkingStudy(Study):
    """Modular addition by a small network: accuracies, sharpness dimension and other measures through the jump."""

    name: ClassVar[str] = "grokking"
    title: ClassVar[str] = "Grokking modular addition, and what moves before"
    abstract: ClassVar[str] = (
        "Two-layer GELU networks of 32 hidden units learn addition modulo a prime from 40% of all pairs, by full-batch "
        "descent with momentum and weight decay on the half-squared loss. They fit the training pairs long before "
        "they generalise. At evenly spaced checkpoints the sharpness dimension is found by quadrature of the whole "
        "spectrum in float64, with the paper's Jacobian I - ηH, and other measures beside it. The paper takes the "
        "prime 97; here it is smaller, so that the runs end within minutes. The paper does not state rates, decays or "
        "the loss: these were chosen so that the networks grok, by their accuracies alone."
    )
    paper: ClassVar[str] = TUCI

    def tasks(self, preset: Preset, seed: int) -> Sequence[TrainTask]:
        return grokking_tasks(preset, seed)

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return grokking_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return grokking_figures(runs)
