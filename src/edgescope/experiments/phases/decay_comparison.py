"""How many steps a schedule of weight decay takes over those at constant decay, with the interval over networks."""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.readings import Piece
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean


def ratio_of_steps(p: Piece, sampled: str = "seeds") -> Answer:
    """The geometric mean of the steps under the schedule over those at constant decay.

    A run that did not get there counts with all of its steps, "most": for constant decay that makes the schedule look
    worse, for the schedule better, which then decides only against it. A pair that neither ended is left out.
    """
    constant, scheduled, most = p.array("steps/constant"), p.array("steps/scheduled"), p["most"]
    ended = np.isfinite(constant) | np.isfinite(scheduled)
    beside = {
        "constant decay: in time": float(np.isfinite(constant).sum()),
        "schedule: in time": float(np.isfinite(scheduled).sum()),
        "of": float(len(constant)),
    }
    if ended.sum() < 2:
        return Open("fewer than two networks reached the target", "longer runs", beside=beside)
    pairs = np.minimum(np.stack([constant, scheduled]), most)[:, ended]
    beside |= {"median steps at constant decay": float(np.median(pairs[0]))}
    beside |= {"median steps under the schedule": float(np.median(pairs[1]))}
    logs = sample_mean(np.log(pairs[1] / pairs[0]), sampled)
    value, low, high = (math.exp(x) for x in (logs.value, logs.low, logs.high))
    if low <= 1 and not np.isfinite(scheduled[ended]).all():
        return Open("a run under the schedule did not reach the target", "longer runs", value, beside)
    return Measured(Estimate(value, min(low, value), max(high, value), logs.samples, sampled), beside)
