"""Claims about schedules of weight decay: the fastest one of deep linear networks, freed traps, and other networks."""

from __future__ import annotations

import numpy as np

from edgescope.claims import Answer, Measured
from edgescope.experiments.phases.decay_comparison import ratio_of_steps
from edgescope.experiments.phases.readings import Piece, each_piece
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import proportion, sample_mean
from edgescope.studies.stated_claim import stated_claim

LEARNING = each_piece("linear schedule", lambda p: p.note * ("learn" in p.note), kind="linear schedules")
"""Schedules of networks that begin near zero."""

FREED = each_piece("linear schedule", lambda p: p.note * ("learn" not in p.note), kind="linear schedules")
"""Schedules of networks that were trapped."""

TRIALS = each_piece("decay trials", lambda p: p.note, kind="decay trials")
"""Networks that are not linear, under constant decay and under a schedule."""


@stated_claim("phases.schedule-fastest", each=LEARNING)
def fastest(p: Piece) -> Answer:
    return Measured(Estimate.exact(p["fewest"]), {"steps of the closed form": p["closed"], "final decay": p["final"]})


@stated_claim("phases.schedule-time", each=LEARNING)
def time(p: Piece) -> Answer:
    return sample_mean(p.array("steps/scheduled") / p["closed"], "networks")


@stated_claim("phases.schedule-against-constant", each=LEARNING)
def against_constant(p: Piece) -> Answer:
    return ratio_of_steps(p, "networks")


@stated_claim("phases.schedule-frees", each=FREED)
def frees(p: Piece) -> Answer:
    beside = {"learned at constant decay": p["constant"], "final decay": p["final"]}
    beside |= {"temperature": p["temperature"]} if np.isfinite(p["temperature"]) else {}
    return Measured(proportion(int(p["learned"]), int(p["replicas"]), "networks"), beside)


@stated_claim("phases.schedule-saves-steps", each=TRIALS)
def saves_steps(p: Piece) -> Answer:
    return ratio_of_steps(p)


CLAIMS = (fastest, time, against_constant, frees, saves_steps)
