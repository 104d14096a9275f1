"""Tables of several runs, as charts of eigenvalues, of losses and of loss changes take them."""

from __future__ import annotations

import numpy as np
import polars as pl

from edgescope.experiments.edge.loss_changes import loss_changes
from edgescope.experiments.study_run import Runs
from edgescope.experiments.tables import series, times


def over_time(runs: Runs, measure: str, part: str = "") -> pl.DataFrame:
    """One series of every run: run, step, time, value."""
    clocks = pl.concat([times(run.record).with_columns(run=pl.lit(name)) for name, run in runs.items()])
    return _series(runs, measure, part).join(clocks, on=["run", "step"])


def two_eigenvalues(runs: Runs) -> pl.DataFrame:
    """The two largest eigenvalues of the Hessian: run, step, value, k."""
    return pl.concat([_series(runs, "sharpness", str(k)).with_columns(k=pl.lit(k)) for k in (1, 2)])


def losses(runs: Runs) -> pl.DataFrame:
    """The training loss of every step: run, time (between readings of the time by a straight line), loss."""
    tables = []
    for name, run in runs.items():
        steps, loss = run.record.series("training_loss")
        clock = times(run.record)
        time = np.interp(steps, clock["step"].to_numpy(), clock["time"].to_numpy())
        tables.append(pl.DataFrame({"run": [name] * len(steps), "time": time, "loss": loss}))
    return pl.concat(tables)


def thresholds(runs: Runs) -> pl.DataFrame:
    """2/η of every run: run, threshold."""
    rates = [float(run.record.config["lr"]) for run in runs.values()]
    return pl.DataFrame({"run": list(runs), "threshold": [2.0 / rate for rate in rates]})


def all_changes(runs: Runs) -> pl.DataFrame:
    """Loss changes of single steps: run, predicted, measured; without columns where no run has any."""
    found = {name: table for name, run in runs.items() if (table := loss_changes(run)) is not None}
    tables = [table.select(pl.lit(name).alias("run"), "predicted", "measured") for name, table in found.items()]
    return pl.concat(tables) if tables else pl.DataFrame()


def _series(runs: Runs, measure: str, part: str) -> pl.DataFrame:
    return series({name: run.record for name, run in runs.items()}, list(runs), measure, part)
