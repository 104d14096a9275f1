"""Tables of several runs, as charts take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.store import Record


def times(record: Record) -> pl.DataFrame:
    """step, time."""
    steps, values = record.series("time")
    return pl.DataFrame({"step": steps, "time": values})


def series(runs: dict[str, Record], names: Sequence[str], measure: str, part: str = "") -> pl.DataFrame:
    """One series of several runs: run, step, value."""
    parts = []
    for name in names:
        steps, values = runs[name].series(measure, part)
        parts.append(pl.DataFrame({"run": [name] * len(steps), "step": steps, "value": values}))
    return pl.concat(parts)


def intervals(series: Iterable[ThresholdSeries]) -> pl.DataFrame:
    """Where runs settle: run, and of its ratios from the first arrival on the mean and the middle 80%."""
    rows = []
    for run in series:
        low, high = np.quantile(run.after, [0.1, 0.9]) if run.after.size else (np.nan, np.nan)
        rows.append((run.name, low, float(run.after.mean()) if run.after.size else np.nan, high))
    return pl.DataFrame(rows, schema=["run", "low", "middle", "high"], orient="row")


def steps_of(runs: dict[str, Record]) -> pl.DataFrame:
    """What directional smoothness said of single steps, one row each: run, step, note, "rounding" of the measured loss
    change, and a column a part, the first named "smoothness"."""
    rows = []
    for name, record in runs.items():
        readings = record.table().filter(pl.col("measure") == "directional_smoothness", pl.col("part").is_not_null())
        if readings.is_empty():
            continue
        values = readings.pivot(on="part", index="step", values="value").rename({"": "smoothness"})
        more = readings.filter(pl.col("part") == "actual").select("step", "note", rounding="error")
        rows.append(values.join(more, on="step").with_columns(run=pl.lit(name)))
    return pl.concat(rows, how="diagonal") if rows else pl.DataFrame()
