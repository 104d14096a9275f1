"""The seeds of one method on one network: last values, curves, means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.claims import Measured, Open
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.store import Record

TITLES = {
    "no-bias": "without bias",
    "batchnorm": "with batch norm",
    "bias": "with bias",
    "layernorm": "with layer norm",
}
"""The architectures of the paper's three scenarios, in their order: I, I, II, III."""

ARCHITECTURES = tuple(TITLES)

FITTED = 0.05
"""Training error above which a network does not interpolate, so that nothing said of interpolators is tested."""

FALLING = 0.95
"""A trace has not arrived while twice the epochs still multiply it by less than this."""

Values = Float[np.ndarray, " seeds"]
Beside = Mapping[str, float | Estimate]


@dataclass(frozen=True, eq=False)
class SeedRuns:
    """All seeds of one method on one network; those that diverged are left out."""

    run: StudyRun

    @property
    def record(self) -> Record:
        """The record of all seeds."""
        return self.run.record

    @cached_property
    def seeds(self) -> list[str]:
        """The parts of the record, one for each seed that has not diverged."""
        last = self.record.table().filter(pl.col("step") == self.record.last_step, pl.col("measure") == "test_error")
        return last["part"].drop_nulls().to_list()

    def last(self, measure: str) -> Values:
        """The last value of every seed."""
        return np.array([self.record.series(measure, seed)[1][-1] for seed in self.seeds])

    def mean(self, measure: str) -> Estimate:
        """The mean over seeds of the last values, with its interval."""
        return sample_mean(self.last(measure))

    @property
    def accuracy(self) -> Estimate:
        """The test accuracy at the end."""
        return sample_mean(1 - self.last("test_error"))

    @property
    def excess(self) -> Values:
        """Trace over the least one, of every seed, at the end."""
        return self.last("trace") / self.last("least_trace")

    @property
    def not_fitted(self) -> Open | None:
        """Why nothing said of interpolating networks is tested; None where the training samples are fitted."""
        if not self.seeds:
            return Open("every seed diverged", "a smaller learning rate")
        error = self.mean("training_error").value
        return None if error <= FITTED else Open(f"training error {error:.2g}", "more epochs, to fit the samples")

    @property
    def falling(self) -> bool:
        """Whether the trace still fell over the second half of the epochs."""
        epochs, traces = self.series("trace")
        half = traces[epochs <= epochs[-1] / 2]
        return bool(half.size and traces[-1].mean() < FALLING * half[-1].mean())

    def series(self, measure: str) -> tuple[Float[np.ndarray, " moments"], Float[np.ndarray, "moments seeds"]]:
        """The epochs of all readings, and the values of every seed there."""
        found = [self.record.series(measure, seed) for seed in self.seeds]
        steps_per_epoch = max(1, round((self.record.last_step or 0) / self.record.config["epochs"]))
        return found[0][0] / steps_per_epoch, np.stack([values for _, values in found], axis=1)

    def neurons(self) -> Float[np.ndarray, "neurons inputs"]:
        """The largest neurons of the last network of the first seed that has not diverged."""
        return self.record.array(self.record.last_step or 0, "neurons", "0")

    def beside(self) -> Beside:
        """Test accuracy, traces and training error at the end, given beside a judged quantity."""
        rows = {
            "test accuracy": self.accuracy,
            "trace": self.mean("trace"),
            "trace over least": sample_mean(self.excess),
        }
        rows |= {"least trace": self.mean("least_trace"), "training error": self.mean("training_error")}
        return {name: row for name, row in rows.items() if np.isfinite(row.value)}


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """The test accuracy of every seed over the epochs of training, and where its mean over seeds is highest."""

    epochs: Float[np.ndarray, " moments"]
    accuracy: Float[np.ndarray, "moments seeds"]
    best: int

    @classmethod
    def of(cls, run: SeedRuns) -> AccuracyCurve | None:
        """The curve of one method on one network; None where every seed diverged."""
        if not run.seeds:
            return None
        epochs, errors = run.series("test_error")
        return cls(epochs, 1 - errors, int(np.argmin(errors.mean(1))))

    @property
    def fall(self) -> Values:
        """By how much the accuracy of every seed ends below that at the best epoch."""
        return self.accuracy[self.best] - self.accuracy[-1]


Pair = tuple[SeedRuns, SeedRuns]
"""The runs of two methods on a network, or of a method on two networks."""


def answer(stop: Open | None, estimate: Estimate, beside: Beside) -> Measured | Open:
    """What was measured of a case, which is open where there is a reason to."""
    return Measured(estimate, beside) if stop is None else replace(stop, value=estimate.value, beside=beside)


def seed_runs(**tags: str | Sequence[str]) -> CaseSelection[SeedRuns]:
    """The runs on the paper's networks with these tags, one case for all seeds of each."""
    return tagged(role="descent", **tags).map(lambda run: None if run.record.last_step is None else SeedRuns(run))


def pairs(network: str | Sequence[str], first: str, second: str) -> CaseSelection[Pair]:
    """The runs of two methods, one case for each network that has both."""

    def choose(runs: Runs) -> list[Item[Pair]]:
        others = {item.factors["network"]: item.value for item in seed_runs(method=second)(runs)}
        found = [(item.factors["network"], item.value) for item in seed_runs(network=network, method=first)(runs)]
        return [Item(name, (run, others[name]), {"network": name}) for name, run in found if name in others]

    return CaseSelection(choose)
