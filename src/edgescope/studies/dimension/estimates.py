"""The claims about the dimension itself: what it is computed from, how estimators agree, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from edgescope.claims import Measured, Open
from edgescope.experiments.dimension.grid import family_of, grid_table
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import Topic

ESTIMATORS = ("SD-SLQ", "SD-KDE", "SD-PS")


def _at_rates(run: StudyRun) -> list[Item[float]]:
    rows = run.record.table().filter(measure="log_singular_values").drop_nulls("value")
    return [Item(f"η = {part}", value) for part, value in rows.select("part", "value").iter_rows()]


@stated_claim("dimension.singular-values", each=tagged(role="jacobian").expand(_at_rates))
def singular_values(difference: float) -> Estimate:
    return Estimate.exact(difference)


@stated_claim("dimension.attractor", each=tagged(role="attractor"))
def attractor(run: StudyRun) -> Measured | Open:
    if run.record.status != "finished":
        return Open("the run has not ended", "the rest of the run")
    boxes, bound = (float(run.record.series(name)[1][-1]) for name in ("box_dimension", "sharpness_dimension"))
    beside = {"box-counting dimension": boxes, "sharpness dimension": bound}
    beside["with the mean for the supremum"] = float(run.record.series("sharpness_dimension", "mean")[1][-1])
    return Measured(Estimate.exact(boxes - bound), beside)


def _exact_rows(runs: Runs) -> list[Item[pl.DataFrame]]:
    """The table of the small networks whose exact dimension is known, if there are any."""
    table = grid_table(family_of(runs, "mlp"))
    known = table if table.is_empty() else table.drop_nulls("SD exact")
    return [] if known.is_empty() else [Item("mlp", known)]


EXACT = CaseSelection(_exact_rows)


def _averages(table: pl.DataFrame) -> list[Item[np.ndarray]]:
    exact = table["SD exact"].to_numpy()
    orders = {"pooled densities": "exact/pooled", "mean of dimensions": "exact/each"}
    return [Item(f"{words} less sorted logarithms", table[key].to_numpy() - exact) for words, key in orders.items()]


@stated_claim("dimension.averaging", each=EXACT.expand(_averages))
def averaging(differences: np.ndarray) -> Measured:
    median = float(np.median(differences))
    return Measured(Estimate.exact(abs(median)), {"median difference": median})


def _errors(table: pl.DataFrame) -> list[Item[np.ndarray]]:
    pooled, size = table["exact/pooled"].to_numpy(), table["size"].to_numpy()
    known = [name for name in ESTIMATORS if table[name].null_count() < table.height]
    return [Item(name, np.abs(table[name].to_numpy().astype(float) - pooled) / size) for name in known]


@stated_claim("dimension.estimators-agree", each=EXACT.expand(_errors))
def estimators_agree(errors: np.ndarray) -> Measured:
    return Measured(Estimate.exact(np.nanmax(errors)), {"median": float(np.nanmedian(errors))})


def _networks(table: pl.DataFrame) -> list[Item[Mapping[str, Any]]]:
    rows = table.iter_rows(named=True)
    return [Item(row["run"], row, {"η": f"{row['learning rate']:g}", "batch": str(row["batch"])}) for row in rows]


@stated_claim("dimension.nearly-full", each=EXACT.expand(_networks))
def nearly_full(row: Mapping[str, Any]) -> Measured:
    beside = {
        "deficit": row["size"] - row["SD exact"],
        "change by a dead zone of 1e-4": row["SD, dead zone"] - row["SD exact"],
    }
    return Measured(Estimate.exact(row["SD exact"] / row["size"]), beside)


def _medians(table: pl.DataFrame) -> list[Item[float]]:
    ratio = table["learning rate"].to_numpy() * table["largest eigenvalue"].to_numpy() / 2
    return [Item("median network", float(np.median(ratio)))]


@stated_claim("dimension.below-edge", each=EXACT.expand(_medians))
def below_edge(median: float) -> Estimate:
    return Estimate.exact(median)


ESTIMATE_TOPICS = (
    Topic("What the dimension is", (singular_values, attractor, averaging, estimators_agree)),
    Topic("How large it is", (nearly_full, below_edge)),
)
