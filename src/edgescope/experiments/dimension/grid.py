"""The grid as a table, and what every measure says of the generalization gap on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl

from edgescope.claims import Open
from edgescope.errors import InputError
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.statistics import RankCorrelation, granulated_kendall, kendall, partial_rank_correlation
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.intervals import Bootstrap
from edgescope.statistics.kendall_difference import kendall_difference

MEASURES: dict[str, tuple[str, str]] = {
    "SD exact": ("sharpness_dimension", "exact"),
    "SD-SLQ": ("sharpness_dimension", "slq"),
    "SD-KDE": ("sharpness_dimension", "kde"),
    "SD-PS": ("sharpness_dimension", "ps"),
    "SD exact, fixed η": ("sharpness_dimension", "exact/fixed"),
    "SD-SLQ, fixed η": ("sharpness_dimension", "slq/fixed"),
    "RDS sharpness": ("sharpness_dimension", "exponent"),
    "PH dimension": ("persistent_homology", "dimension/euclidean"),
    "PH dimension, losses": ("persistent_homology", "dimension/loss"),
    "lifetime sum": ("persistent_homology", "lifetime_sum/euclidean"),
    "lifetime sum, losses": ("persistent_homology", "lifetime_sum/loss"),
    "largest eigenvalue": ("sharpness", "1"),
    "trace": ("hessian_trace", ""),
    "Frobenius norm": ("hessian_frobenius", ""),
    "average sharpness": ("average_sharpness", ""),
    "worst-case sharpness": ("worst_case_sharpness", ""),
    "gradient noise": ("gradient_noise", "trace"),
    "gradient norm": ("gradient_norm", ""),
    "norm": ("norms", "l2"),
    "distance travelled": ("norms", "distance"),
    "path norm": ("path_norm", ""),
}
"""What competes, by the names of the report: the measure and its part."""

TARGETS = {"accuracy gap": "accuracy", "loss gap": "loss"}
"""The absolute differences between test and training, as the paper has them."""

CONTROLS = ("learning rate", "batch")

RESAMPLES = Bootstrap(resamples=400)


Statistic = Literal["tau", "psi", "partial"]


@dataclass(frozen=True, eq=False)
class Correlations:
    """Of one family: for each measure and target Kendall's tau, the mean granulated coefficient and the rank
    correlation given learning rate and batch size; those that are not defined are missing."""

    grid: pl.DataFrame
    tau: dict[tuple[str, str], RankCorrelation]
    psi: dict[tuple[str, str], RankCorrelation]
    partial: dict[tuple[str, str], RankCorrelation]

    @classmethod
    def of(cls, runs: Runs, role: str, kind: str = "") -> Correlations:
        """All correlations of a family; runs that lack a measure are left out of that measure's."""
        return _correlations(tuple(family_of(runs, role, kind)))

    @property
    def points(self) -> int:
        """How many networks there are."""
        return self.grid.height

    @property
    def noise(self) -> float:
        """The standard deviation of tau where nothing is associated."""
        n = self.points
        return float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))) if n > 1 else float("inf")

    def value(self, measure: str, target: str, statistic: Statistic = "tau") -> Estimate | Open:
        """A correlation with its bootstrap interval; open where it is not defined."""
        found: RankCorrelation | None = getattr(self, statistic).get((measure, target))
        if found is None:
            return Open(f"{measure} was not measured on enough networks", "more networks")
        low, high = min(found.low, found.value), max(found.high, found.value)
        return Estimate(found.value, low, high, found.points, "networks")

    def lead(self, measure: str, rival: str, target: str) -> Estimate | Open:
        """By how much tau of a measure exceeds that of a rival."""
        rows = self.grid.drop_nulls([measure, rival]) if {measure, rival} <= set(self.grid.columns) else None
        if rows is None or rows.height < 3:
            return Open(f"{measure} and {rival} were not measured together", "more networks")
        first, second, gap = (rows[name].cast(pl.Float64).to_list() for name in (measure, rival, target))
        try:
            return replace(kendall_difference(first, second, gap, RESAMPLES), sampled="networks")
        except InputError as error:
            return Open(str(error))

    def table(self) -> pl.DataFrame:
        """measure, statistic, target, low, middle, high."""
        rows = [
            (measure, name, target, found.low, found.value, found.high)
            for measure in MEASURES
            for name, field in (("Kendall τ", "tau"), ("granulated Ψ", "psi"), ("given η and batch", "partial"))
            for target in TARGETS
            if (found := getattr(self, field).get((measure, target))) is not None
        ]
        return pl.DataFrame(rows, schema=["measure", "statistic", "target", "low", "middle", "high"], orient="row")


def family_of(runs: Runs, role: str, kind: str = "") -> list[StudyRun]:
    """The runs of one family that ended well, of one kind of optimizer if it is given."""
    tags = {"role": role} | ({"optimizer": kind} if kind else {})
    return [item.value for item in tagged(**tags)(runs) if item.value.record.status == "finished"]


def grid_table(runs: Sequence[StudyRun]) -> pl.DataFrame:
    """One row a run: run, optimizer, learning rate, batch, seed, the gaps, the measures (null where there is none)."""
    rows = []
    for run in runs:
        record = run.record
        config, last = record.config, record.last_step
        found = {
            (measure, part): value
            for step, measure, part, value in record.table().select("step", "measure", "part", "value").iter_rows()
            if step == last and part is not None
        }
        row = {"run": run.name, "optimizer": config["optimizer"], "learning rate": config["lr"]}
        row |= {"batch": config["batch"], "seed": config["seed"]}
        for target, measure in TARGETS.items():
            train, test = (found.get((measure, part), np.nan) for part in ("train", "test"))
            row[target] = abs(test - train)
        row["training accuracy"] = found.get(("accuracy", "train"), np.nan)
        row["size"] = found.get(("sharpness_dimension", "size"), np.nan)
        row |= {label: found.get(key) for label, key in MEASURES.items()}
        row |= {f"exact/{how}": found.get(("sharpness_dimension", f"exact/{how}")) for how in ("pooled", "each")}
        row["SD, dead zone"] = found.get(("sharpness_dimension", "exact/zone 0.0001"))
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


@lru_cache(maxsize=8)
def _correlations(runs: tuple[StudyRun, ...]) -> Correlations:
    """Kept for the families of one study, since every claim and every figure of a family asks for the same."""
    table = grid_table(runs)
    tau, psi, partial = {}, {}, {}
    for measure in MEASURES if runs else ():
        rows = table.drop_nulls(measure) if table[measure].dtype != pl.Null else table.clear()
        rows = rows.filter(pl.col(measure).is_finite())
        axes = {column: rows[column].to_list() for column in (*CONTROLS, "seed")}
        given = {f"log {name}": np.log(rows[name].to_numpy()) for name in CONTROLS}
        for target in TARGETS:
            key, pair = (measure, target), (rows[measure].to_list(), rows[target].to_list())
            try:
                tau[key] = kendall(*pair, bootstrap=RESAMPLES)
                psi[key] = granulated_kendall(*pair, axes, over=CONTROLS, bootstrap=RESAMPLES).mean
                partial[key] = partial_rank_correlation(*pair, given, bootstrap=RESAMPLES)
            except InputError:  # a measure that is constant, or too few runs: it says nothing
                continue
    return Correlations(table, tau, psi, partial)
