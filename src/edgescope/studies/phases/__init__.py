"""Phases under weight decay: what holds of first-order transitions, traps, noise-driven escape and grokking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.phases.runs import phase_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.phases import (
    claims_addition,
    claims_batches,
    claims_coefficient,
    claims_curves,
    claims_escape,
    claims_networks,
    claims_schedules,
    claims_states,
    claims_theory,
    claims_transitions,
)
from edgescope.studies.study import Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


@dataclass(frozen=True)
class Phases(Study):
    """First-order transitions in weight decay, hysteresis, barriers, escape, and grokking that follows from them."""

    name: ClassVar[str] = "phases"
    title: ClassVar[str] = "First-order transitions in weight decay, and whether escape from them is grokking"
    abstract: ClassVar[str] = (
        "Deep linear networks lose features in jumps as weight decay rises, and are trapped when it falls again. "
        "Chains of scalars and whole networks are simulated by the million steps: swept up and down, trapped and "
        "released under Langevin noise and under the noise of mini-batches, trained on 25 samples. What the paper says "
        "is compared with closed forms derived anew, since several of its figures do not follow from its equations. "
        "Learning coefficients are sampled along such sweeps. "
        "Then networks with tanh and ReLU on images, and one that learns modular addition, are swept in the same way. "
        "Every mean time, slope and rate stands with its 95% interval, from a likelihood that counts runs that did not "
        "escape with the time they were watched."
    )
    paper: ClassVar[str] = "Ersoy and Wiesner 2026 (arXiv 2606.17120)"
    topics: ClassVar[Sequence[Topic]] = (
        Topic("Transitions in weight decay", claims_transitions.CLAIMS),
        Topic("States and their loss", claims_states.CLAIMS),
        Topic("Closed forms and quoted figures", claims_theory.CLAIMS),
        Topic("Escape under Langevin noise", claims_escape.CLAIMS),
        Topic("Mini-batch noise", claims_batches.CLAIMS),
        Topic("Learning curves with a plateau", claims_curves.CLAIMS),
        Topic("Schedules of weight decay", claims_schedules.CLAIMS),
        Topic("The learning coefficient", claims_coefficient.CLAIMS),
        Topic("Networks that are not linear", claims_networks.CLAIMS),
        Topic("The network that learns addition", claims_addition.CLAIMS),
    )
    unknown: ClassVar[tuple[str, ...]] = (
        "How long the paper's networks were trained at each decay of a sweep: 20,000 full-batch steps here.",
        "How long its traps were held until they had converged: 20,000 epochs here.",
        "Whether its seeds share one draw of the samples: each has its own here.",
        "Its escape is a test loss below the midpoint; here it is a lost singular value above 0.3, of networks in "
        "which it was below 1e-3 in the trap.",
        "The decays and lengths of its runs at learning rates from 0.0005 to 0.005: decay 0.32 and 20,000 epochs here.",
        "How long the trap of its run on 25 samples was held: from 200 to 3,000 steps here.",
    )
    """What is not known of the paper's set-up, and what preset ``paper`` does in its place."""

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return phase_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.phases.figures import phase_figures  # only here: charts take long to load

        return phase_figures(runs)
