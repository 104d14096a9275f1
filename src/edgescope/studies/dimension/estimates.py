"""The claims about the dimension itself: what it is computed from, how estimators agree, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from edgescope.statistics.estimate import Estimate
from edgescope.studies.dimension.grid import family_of, grid_table
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.sources import TUCI
from edgescope.studies.study_run import Runs, StudyRun
from edgescope.studies.tested_claim import Measured, Topic, claim

ESTIMATORS = ("SD-SLQ", "SD-KDE", "SD-PS")


def _at_rates(run: StudyRun) -> list[Item[float]]:
    rows = run.record.table().filter(measure="log_singular_values").drop_nulls("value")
    return [Item(f"η = {part}", value) for part, value in rows.select("part", "value").iter_rows()]


@claim(
    "dimension.singular-values",
    sentence="Of gradient descent the log singular values of the Jacobian are the sorted ln|1 - ηα| of the Hessian",
    source=f"{TUCI}, claim 1",
    quantity="largest difference",
    region=(0.0, 1e-10),
    origin="the tolerance given with the claim, in float64",
    each=tagged(role="jacobian").expand(_at_rates),
    how="Singular values of the dense I - ηH by themselves, against the eigenvalues of H, at three learning rates.",
)
def singular_values(difference: float) -> Estimate:
    return Estimate.exact(difference)


@claim(
    "dimension.attractor",
    sentence="On the toy attractor the box-counting dimension lies below the sharpness dimension",
    source=f"{TUCI}, claim 2",
    quantity="box-counting dimension less sharpness dimension",
    region=(-np.inf, 0.1),
    origin="the slack given with the claim: 0.1",
    each=tagged(role="attractor"),
    how="Particles that share their noise, after 250 steps. Where the bound equals the dimension of the plane, 2, it "
    "holds for any cloud and is no test.",
)
def attractor(run: StudyRun) -> Measured:
    boxes, bound = (float(run.record.series(name)[1][-1]) for name in ("box_dimension", "sharpness_dimension"))
    beside = {"box-counting dimension": boxes, "sharpness dimension": bound}
    beside["with the mean for the supremum"] = float(run.record.series("sharpness_dimension", "mean")[1][-1])
    return Measured(Estimate.exact(boxes - bound), beside)


def _exact_rows(runs: Runs) -> pl.DataFrame | None:
    """The small networks whose exact dimension is known."""
    table = grid_table(family_of(runs, "mlp"))
    if table.is_empty() or table["SD exact"].null_count() == table.height:
        return None
    return table.drop_nulls("SD exact")


def _averages(runs: Runs) -> list[Item[np.ndarray]]:
    table = _exact_rows(runs)
    if table is None:
        return []
    exact = table["SD exact"].to_numpy()
    orders = {"pooled densities": "exact/pooled", "mean of dimensions": "exact/each"}
    return [Item(f"{words} less sorted logarithms", table[key].to_numpy() - exact) for words, key in orders.items()]


@claim(
    "dimension.averaging",
    sentence="Averaging sorted logarithms, pooling densities and averaging dimensions give different numbers",
    source=f"{TUCI}, claim 9",
    quantity="size of the median difference over the networks",
    region=(1e-6, np.inf),
    origin="derived: far above rounding",
    status="derived",
    unit="directions",
    each=Selection(_averages),
    how="From the same Hessians of the same mini-batches of the small networks.",
)
def averaging(differences: np.ndarray) -> Measured:
    median = float(np.median(differences))
    return Measured(Estimate.exact(abs(median)), {"median difference": median})


def _errors(runs: Runs) -> list[Item[np.ndarray]]:
    table = _exact_rows(runs)
    if table is None:
        return []
    pooled, size = table["exact/pooled"].to_numpy(), table["size"].to_numpy()
    known = [name for name in ESTIMATORS if table[name].null_count() < table.height]
    return [Item(name, np.abs(table[name].to_numpy().astype(float) - pooled) / size) for name in known]


@claim(
    "dimension.estimators-agree",
    sentence="The quadrature estimators agree with the exact dimension",
    source="aim of this instrument",
    quantity="largest error over the number of parameters, of all networks of the grid",
    region=(0.0, 0.02),
    origin="ours: 2% of the number of parameters",
    status="ours",
    each=Selection(_errors),
    how="Against the exact dimension of the pooled density of the same mini-batches, as quadrature sees it.",
)
def estimators_agree(errors: np.ndarray) -> Measured:
    return Measured(Estimate.exact(np.nanmax(errors)), {"median": float(np.nanmedian(errors))})


def _networks(runs: Runs) -> list[Item[Mapping[str, Any]]]:
    table = _exact_rows(runs)
    rows = [] if table is None else list(table.iter_rows(named=True))
    return [Item(row["run"], row, {"η": f"{row['learning rate']:g}", "batch": str(row["batch"])}) for row in rows]


@claim(
    "dimension.nearly-full",
    sentence="Null and tiny negative eigenvalues make up the dimension: it is nearly that of the whole space",
    source="derived here, and checked on toy networks: 0.90 to 0.97",
    quantity="SD over the number of parameters",
    region=(0.8, 1.0),
    origin="derived, and checked on toy networks",
    status="derived",
    each=Selection(_networks),
    how="So a dimension above 0 does not certify the edge of stability; networks differ by a few percent of it.",
)
def nearly_full(row: Mapping[str, Any]) -> Measured:
    beside = {
        "deficit": row["size"] - row["SD exact"],
        "change by a dead zone of 1e-4": row["SD, dead zone"] - row["SD exact"],
    }
    return Measured(Estimate.exact(row["SD exact"] / row["size"]), beside)


def _medians(runs: Runs) -> list[Item[float]]:
    table = _exact_rows(runs)
    if table is None:
        return []
    ratio = table["learning rate"].to_numpy() * table["largest eigenvalue"].to_numpy() / 2
    return [Item("median network", float(np.median(ratio)))]


@claim(
    "dimension.below-edge",
    sentence="It is so although the networks lie below the edge of stability",
    source="derived here, and checked on toy networks",
    quantity="median over the networks of η times sharpness over 2",
    region=(0.0, 1.0),
    origin="derived: 1 is the threshold of gradient descent",
    status="derived",
    each=Selection(_medians),
    how="The largest eigenvalue of the Hessian on the training set at the end of each run.",
)
def below_edge(median: float) -> Estimate:
    return Estimate.exact(median)


ESTIMATE_TOPICS = (
    Topic("What the dimension is", (singular_values, attractor, averaging, estimators_agree)),
    Topic("How large it is", (nearly_full, below_edge)),
)
