"""One run of descent as the claims look at it: sharpness, smoothness, eigenvalues and outputs, over their threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgescope.claims import Open
from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import AT_LEAST, ThresholdSeries
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import time_mean
from edgescope.store import Record


@dataclass(frozen=True, eq=False)
class DescentRun:
    """A run of descent measured in its own norm; everything is read from its record."""

    run: StudyRun

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def method(self) -> str:
        """Which method it is, as tagged."""
        return self.run.tags["method"]

    @property
    def record(self) -> Record:
        """The record of the run."""
        return self.run.record

    @property
    def normalized(self) -> bool:
        """Whether its steps are normalized, so that its threshold moves with the gradient."""
        return self.run.tags["normalized"] == "yes"

    @cached_property
    def sharpness(self) -> ThresholdSeries:
        """The lower end of S over the threshold."""
        return ThresholdSeries.of(self.run, "generalized_sharpness", "ratio")

    @cached_property
    def smoothness(self) -> ThresholdSeries:
        """D over the threshold."""
        return ThresholdSeries.of(self.run, "directional_smoothness", "ratio")

    @property
    def crossing(self) -> float:
        """The step of the measurement at which S first reached its threshold; NaN if it never did."""
        return self.sharpness.arrival_step

    @property
    def not_at_edge(self) -> Open | None:
        """Why the claims about the edge cannot be decided; None where S crossed and stayed long enough."""
        mean = self.sharpness.mean_after_arrival()
        return mean if isinstance(mean, Open) else None

    @property
    def ends_at_edge(self) -> bool:
        """Whether S, from below, was at or above its threshold at the last measurement."""
        return bool(self.sharpness.ratio.size and self.sharpness.ratio[-1] >= 1)

    @property
    def upper(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps at which there was a certificate, and the upper end of S over the threshold."""
        steps, upper = self.record.series("generalized_sharpness", "upper")
        at, threshold = self.record.series("generalized_sharpness", "threshold")
        return steps, upper / threshold[np.searchsorted(at, steps)]

    @property
    def upper_mean(self) -> float:
        """The mean over time of the upper end after S crossed; NaN without one."""
        steps, upper = self.upper
        after = upper[steps >= self.crossing]
        return float(after.mean()) if after.size else np.nan

    @property
    def smoothness_mean(self) -> Estimate | Open:
        """The mean over time of D from its first crossing; where it never crosses, from that of S."""
        if self.smoothness.arrival is not None:
            return self.smoothness.mean
        later = self.smoothness.ratio[self.smoothness.steps >= self.crossing]
        if later.size < AT_LEAST:
            return Open(f"{later.size} steps after S crossed, {AT_LEAST} needed", "more steps")
        return time_mean(later)

    @property
    def plain(self) -> float:
        """The largest eigenvalue of the Hessian over 2/lr, the largest after S crossed; NaN if it never did."""
        steps, values = self.record.series("sharpness", "1")
        after = values[steps >= self.crossing]
        return float(after.max()) * float(self.record.config["lr"]) / 2 if after.size else np.nan

    def oscillates(self, window: int) -> float:
        """The last of the first ``window`` steps whose mean cosine of output changes is negative; infinite if none."""
        steps, cosine = self.record.series("oscillation")
        if len(cosine) < window:
            return np.inf
        below = np.flatnonzero(np.convolve(cosine, np.full(window, 1 / window), "valid") < 0)
        return float(steps[below[0] + window - 1]) if below.size else np.inf

    def unstable_directions(self) -> tuple[np.ndarray, np.ndarray]:
        """After S crossed: how many of the followed eigenvalues lie above 2/lr, and S over it."""
        limit = 2 / float(self.record.config["lr"])
        parts = [self.record.series("sharpness", str(k)) for k in (1, 2, 3, 4)]
        steps = parts[0][0]
        values = np.stack([values for at, values in parts if len(at) == len(steps)])
        after = steps >= self.crossing
        return (values[:, after] > limit).sum(0), values[0, after] / limit

    @property
    def ahead(self) -> tuple[float, float]:
        """The largest loss ahead over the present one at the end, on the quadratic model and on the network."""
        ends = [self.record.series("quadratic_model", part) for part in ("model", "network")]
        last = self.record.last_step
        model, network = (values[-1] if len(steps) and steps[-1] == last else np.nan for steps, values in ends)
        return float(model), float(network)

    def against_eigenvalue(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where all were measured and S > 0: both ends of S, the largest eigenvalue, and the error of that."""
        table = self.record.table().drop_nulls("value")
        wanted = {("generalized_sharpness", "lower"), ("generalized_sharpness", "upper"), ("sharpness", "1")}
        rows: dict[int, dict[tuple[str, str], tuple[float, float]]] = {}
        for step, measure, part, value, error in table.select("step", "measure", "part", "value", "error").iter_rows():
            if (measure, part) in wanted:
                rows.setdefault(step, {})[measure, part] = value, error or 0.0
        both = [row for row in rows.values() if len(row) == 3 and row["generalized_sharpness", "lower"][0] > 0]
        lower, upper = (np.array([row["generalized_sharpness", end][0] for row in both]) for end in ("lower", "upper"))
        eigenvalue = np.array([row["sharpness", "1"] for row in both]).reshape(-1, 2)
        return lower, upper, eigenvalue[:, 0], eigenvalue[:, 1]


def descents(**tags: str | tuple[str, ...]) -> CaseSelection[DescentRun]:
    """The runs of descent with these tags."""
    return tagged(role="descent", **tags).map(DescentRun)
