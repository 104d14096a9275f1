"""Sharpness over the edge of SAM, which depends on the gradient, and over the threshold that clipping leaves behind."""

from __future__ import annotations

import math

import numpy as np

from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.optim import plan_optimizers
from edgescope.optim.named import Sam


def over_sam_edge(run: StudyRun) -> ThresholdSeries:
    """The largest eigenvalue h of the Hessian over that with h (1 + ρh/‖g‖) = 2/η, at every reading of both.

    Source: Long and Bartlett 2023 (arXiv 2309.12488), eq. of the SAM-edge.
    """
    named, lr = plan_optimizers(run.record.config["optimizer"]).named[0], float(run.record.config["lr"])
    assert isinstance(named, Sam)
    steps, sharpness = run.record.series("sharpness", "1")
    at, norms = run.record.series("gradient_norm")
    both, places, of_norms = np.intersect1d(steps, at, return_indices=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = norms[of_norms] / (2 * named.rho)
        edge = x * (np.sqrt(1 + 4 / (lr * x)) - 1)
        ratio = sharpness[places] / edge
    known = np.isfinite(ratio)
    return ThresholdSeries(run.name, run.record, both[known], ratio[known])


def lowest_over_plain(run: StudyRun) -> float:
    """The lowest sharpness over 2/η in the second half of the readings from the first at the run's own threshold on.

    NaN for a run that never arrives there.
    """
    series = ThresholdSeries.of(run)
    if series.arrival is None:
        return math.nan
    steps, sharpness = run.record.series("sharpness", "1")
    after = sharpness[steps >= series.arrival_step]
    return float(after[after.size // 2 :].min() * float(run.record.config["lr"]) / 2)
