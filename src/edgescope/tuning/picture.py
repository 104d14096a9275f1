"""The picture of what the learning rate finder has found."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import polars as pl

from edgescope.figures.figure import Figure
from edgescope.figures.learning_rates import WARM_UP, WITHOUT, learning_rate_trials

if TYPE_CHECKING:
    from edgescope.tuning.suggestion import LearningRateSuggestion

NAME = "learning-rate"
"""The stem of the files."""


def picture(found: LearningRateSuggestion) -> Figure:
    """Loss over learning rate of the trials, below the critical rates of single batches."""
    trials = pl.DataFrame(
        {
            "rate": [trial.rate for trial in found.trials],
            "loss": [trial.loss for trial in found.trials],
            "kind": [WARM_UP if trial.warm_up else WITHOUT for trial in found.trials],
        }
    )
    each = {"critical, at the start": found.at_start, f"critical, after {found.warm_up} steps": found.after_warm_up}
    critical = pl.DataFrame(
        [{"name": name, "low": x.low, "median": x.median, "high": x.high} for name, x in each.items()]
    )
    start = statistics.fmean(trial.start for trial in found.trials)
    chart = learning_rate_trials(trials, critical, suggested=found.suggested, start_loss=start)
    caption = (
        f"Mean loss over the last steps of short training runs with {found.optimizer}, a point for each; dashed: the"
        " loss before training. Above: where steps on single batches turn unstable, 10th to 90th percentile and median."
    )
    return Figure(NAME, f"Learning rate of {found.optimizer}", caption, chart)
