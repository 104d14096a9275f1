"""The measured gap between sharpness and threshold at one point, with the terms of its formula, as a reading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.experiments.study_run import StudyRun
from edgescope.flows import sharpness_gap
from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import time_mean

MEASURE = "sharpness_gap"


def gap_reading(
    objective: Objective, optimizer: torch.optim.Optimizer, w: Float[Tensor, " P"], batch: int | None
) -> Reading:
    """The gap at ``w`` and its terms for mini-batches of ``batch`` samples; None is all of them, without noise."""
    lr = float(optimizer.param_groups[0]["lr"])
    terms = sharpness_gap(objective, lr, objective.samples if batch is None else batch, w)
    names = ("measured", "alpha", "beta", "noise", "curvature_noise")
    values = {name: float(getattr(terms, name)) for name in names}
    return Reading(MEASURE, values, errors={name: terms.errors[name] for name in names}, cost=terms.cost)


@dataclass(frozen=True)
class MeanGap:
    """Means over a run: the gap, and the formula ηβσ²/(4α) of the means of its terms.

    The interval of the formula is that of β/mean + σ²/mean - α/mean over time (the delta method); it is unknown where
    α is not positive in the mean.
    """

    measured: Estimate
    formula: Estimate
    with_curvature_noise: float

    @classmethod
    def of(cls, run: StudyRun) -> MeanGap:
        """Of the readings of a run of SGD."""
        lr = float(run.record.config["lr"])
        columns = {name: run.record.series(MEASURE, name)[1] for name in ("alpha", "beta", "noise", "curvature_noise")}
        alpha, beta, noise, curvature = (float(values.mean()) if values.size else np.nan for values in columns.values())
        formula, more = UNKNOWN, np.nan
        if alpha > 0:
            value = lr * beta * noise / (4 * alpha)
            formula, more = Estimate.exact(value), value + curvature
            if value > 0:
                relative = time_mean(columns["beta"] / beta + columns["noise"] / noise - columns["alpha"] / alpha)
                reach = value * relative.half_width
                formula = Estimate(value, value - reach, value + reach, relative.samples, "readings")
        return cls(time_mean(run.record.series(MEASURE, "measured")[1]), formula, float(more))
