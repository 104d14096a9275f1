"""One run read from its record: accuracies, measures at the same steps, and the jump."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.store import Record

MEASURES: dict[str, tuple[str, str]] = {
    "SD": ("sharpness_dimension", "slq"),
    "RDS sharpness": ("rds_sharpness", ""),
    "largest eigenvalue": ("sharpness", "1"),
    "trace": ("hessian_trace", ""),
    "lifetime sum": ("persistent_homology", "lifetime_sum/euclidean"),
    "norm": ("norms", "l2"),
}

COEFFICIENT = "learning coefficient"
"""The label of the local learning coefficient, which only some presets measure."""

READ = MEASURES | {COEFFICIENT: ("learning_coefficient", "")}

LEARNED, GROKKED = 0.5, 0.6
"""Training accuracy from which a run has learned, and test accuracy at which it has grokked; between the test accuracy
has to rise from below a tenth."""

NEAR = 2
"""Checkpoints around the jump within which a change counts as one with it (ours)."""


@dataclass(frozen=True, eq=False)
class TrainingCurves:
    """A run with its accuracies, its measures at the same steps (NaN where there is none), and its jump."""

    name: str
    steps: Int[np.ndarray, " n"]
    train: Float[np.ndarray, " n"]
    test: Float[np.ndarray, " n"]
    measures: dict[str, Float[np.ndarray, " n"]]

    @classmethod
    def of(cls, run: StudyRun) -> TrainingCurves:
        """Everything is read from the record of the run."""
        record = run.record
        steps, train = record.series("accuracy", "train")
        _, test = record.series("accuracy", "test")
        measures = {}
        for label, (measure, part) in READ.items():
            at, values = record.series(measure, part) if _has(record, measure) else (np.array([]), np.array([]))
            known = dict(zip(at.tolist(), values.tolist(), strict=True))
            measures[label] = np.array([known.get(step, np.nan) for step in steps.tolist()])
        return cls(run.name, steps, train, test, measures)

    @property
    def reached(self) -> float:
        """The highest test accuracy after half of the training data are learned at a test accuracy below a tenth; 0
        where they never are."""
        late = np.flatnonzero((self.train >= LEARNED) & (self.test < 0.1))
        return float(self.test[late[0] :].max()) if late.size else 0.0

    @property
    def grokked(self) -> bool:
        """Whether it learned the training data while the test accuracy was below a tenth, and generalized later."""
        return self.reached >= GROKKED

    @property
    def jump(self) -> int:
        """The index of the checkpoint before the steepest rise, over three checkpoints, of the test accuracy."""
        return int(np.argmax(self.test[3:] - self.test[:-3])) + 1

    def common(self, *labels: str) -> list[Float[np.ndarray, " k"]]:
        """These measures and the accuracy gap at the checkpoints that have all of them, from :attr:`began` on."""
        columns = [self.measures[label] for label in labels] + [np.abs(self.train - self.test)]
        fit = np.isfinite(columns).all(0) & (np.arange(len(self.steps)) >= self.began)
        return [column[fit] for column in columns]

    def correlation(self, label: str) -> float:
        """Kendall's tau with the accuracy gap over the checkpoints, from when the run had begun to learn."""
        values, gap = self.common(label)
        return float(scipy.stats.kendalltau(values, gap).statistic) if len(gap) > 5 else np.nan

    @property
    def began(self) -> int:
        """The index of the first checkpoint at which half of the training data are learned."""
        above = np.flatnonzero(self.train >= LEARNED)
        return int(above[0]) if above.size else 0

    def change(self, label: str) -> float:
        """The largest change between checkpoints within the jump, over the median one beyond the first tenth."""
        values = self.measures[label]
        steps = np.abs(np.diff(values))
        near = steps[max(0, self.jump - NEAR) : self.jump + NEAR + 1]
        usual = np.nanmedian(steps[len(steps) // 10 :])
        return float(np.nanmax(near) / usual) if usual > 0 else np.nan


def training_curves() -> CaseSelection[TrainingCurves]:
    """All runs, one case each."""
    return tagged(role="training").map(TrainingCurves.of)


def grokked_curves() -> CaseSelection[TrainingCurves]:
    """The runs that grokked, one case each."""
    return training_curves().map(lambda run: run if run.grokked else None)


def _has(record: Record, measure: str) -> bool:
    return measure in record.table()["measure"].unique().to_list()
