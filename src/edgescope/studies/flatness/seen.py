"""The runs of the study as its claims look at them: the last values of every seed, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from edgescope.store import Record
from edgescope.studies.flatness.runs import NETWORKS

WEN = "Wen, Li, Ma 2023 (arXiv 2307.11007)"

ARCHITECTURES = ("no-bias", "batchnorm", "bias", "layernorm")
"""Those of the paper's three scenarios, in their order: I, I, II, III."""

TITLES = {
    "no-bias": "without bias",
    "batchnorm": "with batch norm",
    "bias": "with bias",
    "layernorm": "with layer norm",
}
METHODS = {
    "1SAM": "1-SAM",
    "noise": "label-noise SGD",
    "SAM": "full-batch SAM",
    "GD": "descent, weight decay",
    "SGD": "SGD, weight decay",
}

FITTED = 0.05
"""Training error above which a network does not interpolate, so that nothing said of interpolators is tested."""

FALLING = 0.95
"""A trace has not arrived while twice the epochs still multiply it by less than this."""


@dataclass(frozen=True)
class Descents:
    """All seeds of one method on one network."""

    name: str
    record: Record

    @property
    def network(self) -> str:
        return self.name.rsplit("-", 1)[0]

    @property
    def method(self) -> str:
        return self.name.rsplit("-", 1)[1]

    def parts(self) -> list[str]:
        """The seeds that have not diverged."""
        last = self.record.table().filter(pl.col("step") == self.record.last_step, pl.col("measure") == "test_error")
        return last["part"].drop_nulls().to_list()

    def last(self, measure: str) -> np.ndarray:
        """The last value of every seed; empty where all have diverged."""
        return np.array([self.record.series(measure, part)[1][-1] for part in self.parts()])

    def mean(self, measure: str) -> float:
        values = self.last(measure)
        return float(values.mean()) if values.size else np.nan

    @property
    def excess(self) -> np.ndarray:
        """Trace over the least one, of every seed."""
        return self.last("trace") / self.last("least_trace")

    @property
    def fitted(self) -> bool:
        return self.mean("training_error") <= FITTED

    @property
    def falling(self) -> bool:
        """Whether the trace still fell over the second half of the epochs."""
        curve = self.curve("trace")
        half = curve.filter(pl.col("epoch") <= curve["epoch"][-1] / 2)
        return not half.is_empty() and float(curve["middle"][-1]) < FALLING * float(half["middle"][-1])

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over seeds."""
        return 1 - self.mean("test_error")

    def curve(self, measure: str) -> pl.DataFrame:
        """epoch, low, middle, high: the mean over seeds and their range (an interval of two seeds would hide all)."""
        config = self.record.config
        rows: dict[int, list[float]] = {}
        for part in self.parts():
            for step, value in zip(*self.record.series(measure, part), strict=True):
                rows.setdefault(int(step), []).append(float(value))
        a_epoch = max(1, round((self.record.last_step or 0) / config["epochs"]))
        table = [
            (step / a_epoch, min(values), float(np.mean(values)), max(values)) for step, values in sorted(rows.items())
        ]
        return pl.DataFrame(table, schema=["epoch", "low", "middle", "high"], orient="row")


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean between the ends of its 95% interval by Student's t; without width for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean - half, mean, mean + half


def descents_of(runs: Mapping[str, Record]) -> dict[str, Descents]:
    """The runs on the paper's networks, by name; those without a finite end are left out."""
    found = {name: Descents(name, record) for name, record in runs.items() if name.rsplit("-", 1)[0] in NETWORKS}
    return {name: run for name, run in found.items() if run.record.last_step is not None and run.parts()}


def sizes_of(runs: Mapping[str, Record]) -> dict[int, dict[int, np.ndarray]]:
    """Test errors by dimension and number of samples, one a seed."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for name, record in runs.items():
        if name.startswith("samples-d"):
            rows = record.table().filter(pl.col("measure") == "test_error").group_by("step").agg("value").sort("step")
            found[int(record.config["dim"])] = {step: np.array(values) for step, values in rows.iter_rows()}
    return dict(sorted(found.items()))


def enough(errors: dict[int, np.ndarray], level: float) -> float:
    """The number of samples at which the mean error first falls to ``level``, between measured sizes by a straight
    line; NaN where it does not, or lies there from the first."""
    sizes = sorted(errors)
    means = [float(errors[size].mean()) for size in sizes]
    for (n0, e0), (n1, e1) in zip(zip(sizes, means, strict=True), zip(sizes[1:], means[1:], strict=True), strict=False):
        if e0 > level >= e1:
            return n0 + (n1 - n0) * (e0 - level) / (e0 - e1)
    return np.nan
