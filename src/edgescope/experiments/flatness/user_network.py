"""The user's network by SGD and by SAM from the same seeds: its sharpness, loss and accuracy at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from edgescope.experiments.selection import Item, grouped, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.statistics.estimate import Estimate

SERIES = {
    "trace": ("hessian_trace", ""),
    "eigenvalue": ("sharpness", "1"),
    "adaptive sharpness": ("worst_case_sharpness", ""),
    "loss": ("loss", "train"),
    "accuracy": ("accuracy", "test"),
}
"""Measure and part of what is read of a run, by the name that it has beside a case."""

Pair = tuple[StudyRun, StudyRun]
"""A run of the user's network by SAM, and the one by SGD from the same seed."""

UserRuns = Sequence[Pair]
"""All seeds of the user's network at one radius of SAM."""


def last(run: StudyRun, name: str) -> float:
    """The last value of a series; NaN without one."""
    return _last(run, name)[0]


def _last(run: StudyRun, name: str) -> tuple[float, float]:
    """The last value of a series and its error; NaN and 0 without one."""
    measure, part = SERIES[name]
    table = run.record.table().filter(pl.col("part") == part, pl.col("value").is_not_null(), measure=measure)
    if table.is_empty():
        return np.nan, 0.0
    end = table.sort("step").row(-1, named=True)
    return float(end["value"]), float(end["error"] or 0.0)


def sharpness_ratio(pair: Pair, name: str) -> Estimate:
    """A sharpness under SAM over that under SGD, with the interval of the two measurements."""
    (sam, sam_error), (sgd, sgd_error) = (_last(run, name) for run in pair)
    reach = 1.96 * float(np.hypot(sam_error, sam / sgd * sgd_error)) / sgd
    return Estimate(sam / sgd, sam / sgd - reach, sam / sgd + reach)


def by_radius(runs: Runs) -> list[Item[UserRuns]]:
    """One case for each radius of SAM, of the seeds that have ended under both methods."""
    plain = {item.factors["seed"]: item.value for item in tagged(role="user", method="SGD")(runs)}
    items: list[Item[UserRuns]] = []
    for item in grouped("rho", role="user", method="SAM")(runs):
        both = [(run, plain[run.tags["seed"]]) for run in item.value if run.tags["seed"] in plain]
        ended = [pair for pair in both if all(run.record.status == "finished" for run in pair)]
        items += [Item(f"radius {item.name}", ended, item.factors)] if ended else []
    return items


def by_seed(pairs: UserRuns) -> list[Item[Pair]]:
    """The runs of one radius, one case a seed."""
    return [Item(f"radius {sam.tags['rho']}, seed {sam.tags['seed']}", (sam, sgd), sam.tags) for sam, sgd in pairs]
