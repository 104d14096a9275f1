"""Grokking: networks that memorise addition first and understand it later, and what their measures do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.studies.grokking.claims import TOPICS
from edgescope.studies.grokking.pictures import grokking_figures
from edgescope.studies.grokking.runs import UNKNOWN, grokking_tasks
from edgescope.studies.sources import TUCI
from edgescope.studies.study import Preset, Study, TrainTask
from edgescope.studies.study_run import Runs
from edgescope.studies.tested_claim import Topic


@dataclass(frozen=True)
class GrokkingStudy(Study):
    """Modular addition by a small network: accuracies, sharpness dimension and other measures through the jump."""

    name: ClassVar[str] = "grokking"
    title: ClassVar[str] = "Grokking modular addition, and what moves before"
    abstract: ClassVar[str] = (
        "Two-layer GELU networks of 32 hidden units learn addition modulo a prime from 40% of all pairs, by full-batch "
        "gradient descent with momentum and weight decay on the half-squared loss. They fit the training pairs long "
        "before they generalize. At evenly spaced checkpoints the sharpness dimension is found by quadrature of the "
        "whole spectrum in float64, with the paper's Jacobian I - ηH, and other measures beside it. The paper takes "
        "the prime 97; here it is smaller, so that the runs end within minutes. The paper does not state learning "
        "rates, decays or the loss: these were chosen so that the networks grok, by their accuracies alone."
    )
    paper: ClassVar[str] = TUCI
    topics: ClassVar[Sequence[Topic]] = TOPICS
    unknown: ClassVar[tuple[str, ...]] = UNKNOWN

    def tasks(self, preset: Preset, seed: int) -> Sequence[TrainTask]:
        return grokking_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        return grokking_figures(runs)
