"""The grid as a table, and what every measure says of the generalization gap on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from edgescope.errors import InputError
from edgescope.statistics import RankCorrelation, granulated_kendall, kendall, partial_rank_correlation
from edgescope.statistics.intervals import Bootstrap
from edgescope.store import Record

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


@dataclass(frozen=True)
class Correlations:
    """Of one family: for each measure and target Kendall's tau, the mean granulated coefficient and the rank
    correlation given learning rate and batch size; those that are not defined are missing."""

    family: str
    points: int
    learned: tuple[float, float]
    """The lowest and the highest training accuracy: not every setting of a grid is trained to its end."""
    tau: dict[tuple[str, str], RankCorrelation]
    psi: dict[tuple[str, str], RankCorrelation]
    partial: dict[tuple[str, str], RankCorrelation]

    @property
    def described(self) -> str:
        """How many networks there are, how far they were trained, and what tau says of nothing, for a reader."""
        if not self.points:
            return "None was run."
        low, high = self.learned
        return (
            f"{self.points} networks, training accuracies {low:.0%} to {high:.0%}; without association τ has a "
            f"standard deviation of {self.noise:.2f}."
        )

    @property
    def noise(self) -> float:
        """The standard deviation of tau where nothing is associated."""
        n = self.points
        return float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))) if n > 1 else float("inf")

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


def family_of(runs: Mapping[str, Record], prefix: str) -> dict[str, Record]:
    """The runs of one family that ended well."""
    return {n: r for n, r in runs.items() if n.startswith(f"{prefix}-") and r.status == "finished"}


def grid_table(runs: Mapping[str, Record]) -> pl.DataFrame:
    """One row a run: run, optimizer, learning rate, batch, seed, the gaps, the measures (null where there is none)."""
    rows = []
    for name, record in runs.items():
        config, last = record.config, record.last_step
        found = {
            (measure, part): value
            for step, measure, part, value in record.table().select("step", "measure", "part", "value").iter_rows()
            if step == last and part is not None
        }
        row = {"run": name, "optimizer": config["optimizer"], "learning rate": config["lr"]}
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


def correlations(runs: Mapping[str, Record], family: str) -> Correlations:
    """All correlations of a family; runs that lack a measure are left out of that measure's."""
    table = grid_table(runs) if runs else pl.DataFrame()
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
    accuracies = table["training accuracy"].to_list() if runs else []
    learned = (min(accuracies, default=np.nan), max(accuracies, default=np.nan))
    return Correlations(family, table.height, learned, tau, psi, partial)
