"""The picture of what the learning rate finder has found."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import polars as pl

from edgescope.figures.figure import Figure
from edgescope.figures.learning_rates import WARM_UP, WITHOUT, learning_rate_trials
from edgescope.tuning.critical_percentiles import CriticalRates
from edgescope.tuning.rate_search import RateTrial

NAME = "learning-rate"
"""The stem of the files."""


def picture(optimizer: str, suggested: float, trials: Sequence[RateTrial], bars: Mapping[str, CriticalRates]) -> Figure:
    """Loss over learning rate of the trials, below the critical rates of single batches, whose ``bars`` have names."""
    table = pl.DataFrame(
        {
            "rate": [trial.rate for trial in trials],
            "loss": [trial.loss for trial in trials],
            "kind": [WARM_UP if trial.warm_up else WITHOUT for trial in trials],
        }
    )
    critical = pl.DataFrame(
        [{"name": f"critical, {name}", "low": x.low, "median": x.median, "high": x.high} for name, x in bars.items()]
    )
    start = statistics.fmean(trial.start for trial in trials)
    chart = learning_rate_trials(table, critical, suggested=suggested, start_loss=start)
    caption = (
        f"Mean loss over the last steps of short training runs with {optimizer}, a point for each; dashed: the loss"
        " before training. Above: where steps on single batches turn unstable, 10th to 90th percentile and median."
    )
    return Figure(NAME, f"Learning rate of {optimizer}", caption, chart)
