"""A series over its threshold: when it first arrives there, and where it stays from then on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from edgescope.claims import Open
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import time_mean
from edgescope.store import Record

AT_LEAST = 20
"""Readings after the first arrival at the threshold that a mean over time needs to say something."""


@dataclass(frozen=True, eq=False)
class ThresholdSeries:
    """The readings of a run over their threshold, by step; readings that are not finite are left out."""

    name: str
    record: Record
    steps: Int[np.ndarray, " n"]
    ratio: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, run: StudyRun, measure: str = "ratio", part: str = "") -> ThresholdSeries:
        """The series of one measure of a run, which has to be a ratio to its threshold."""
        steps, ratio = run.record.series(measure, part)
        known = np.isfinite(ratio)
        return cls(run.name, run.record, steps[known], ratio[known])

    @property
    def arrival(self) -> int | None:
        """The index of the first reading at or above the threshold."""
        above = np.flatnonzero(self.ratio >= 1.0)
        return int(above[0]) if above.size else None

    @property
    def arrival_step(self) -> float:
        """The step of the first reading at or above the threshold, NaN without one."""
        return math.nan if self.arrival is None else float(self.steps[self.arrival])

    @property
    def after(self) -> Float[np.ndarray, " k"]:
        """The readings from the first arrival on."""
        return self.ratio[self.arrival :] if self.arrival is not None else np.array([])

    @property
    def mean(self) -> Estimate:
        """The mean over time from the first arrival on, with its interval; its samples are steps."""
        if not self.after.size:
            return UNKNOWN
        return replace(time_mean(self.after), samples=self.after.size * self._spacing(), sampled="steps")

    def mean_after_arrival(self, at_least: int = AT_LEAST) -> Estimate | Open:
        """The mean over time from the first arrival on, open where the run never arrived or did not stay
        ``at_least`` readings."""
        if self.arrival is None:
            highest = f"{self.ratio.max():.3g}" if self.ratio.size else "no reading"
            return Open(f"never arrived (highest ratio {highest})", f"arrival: {self._missing()}")
        short = at_least - self.after.size
        if short > 0:
            return Open(
                f"{self.after.size} readings after arrival, {at_least} needed",
                f"about {math.ceil(short * self._spacing()):,} more steps",
                float(self.after.mean()),
            )
        mean = self.mean
        if not mean.known:
            return Open("still drifting: its readings are not independent", "a longer run", mean.value)
        return mean

    def _spacing(self) -> float:
        return float(np.median(np.diff(self.steps))) if self.steps.size > 1 else 1.0

    def _missing(self) -> str:
        """How many more steps would bring the ratio to 1, if it went on rising as in the last third of the run."""
        late = max(2, self.steps.size // 3)
        if self.steps.size < 4:
            return "more steps"
        slope = float(np.polyfit(self.steps[-late:].astype(float), self.ratio[-late:], 1)[0])
        if slope <= 0:
            return "a larger learning rate, since the ratio no longer rises"
        return f"about {math.ceil((1 - self.ratio[-1]) / slope):,} more steps"
