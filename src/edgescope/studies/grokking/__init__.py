"""Grokking: networks that memorise addition first and understand it later, and what their measures do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.grokking.runs import grokking_tasks
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.grokking import claims_schedules
from edgescope.studies.grokking.claims import TOPICS
from edgescope.studies.sources import TUCI
from edgescope.studies.study import Preset, Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


@dataclass(frozen=True)
class GrokkingStudy(Study):
    """Modular addition by a small network: accuracies, sharpness dimension and other measures over time."""

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
    topics: ClassVar[Sequence[Topic]] = (*TOPICS, Topic("Schedules of weight decay", claims_schedules.CLAIMS))
    unknown: ClassVar[tuple[str, ...]] = (
        "Known of the paper's runs: addition modulo 97, 40% of all pairs for training, two-layer GELU networks, and "
        "their spectra by quadrature in float64.",
        "Not known: the learning rates, decays, loss and lengths; those here were chosen for smaller primes so that "
        "the networks grok, by their accuracies alone.",
    )

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return grokking_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.grokking.figures import grokking_figures  # only here: charts take long to load

        return grokking_figures(runs)
