"""An optimizer and its flows as the claims look at them: ratios of averages and of distances, from their record."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from edgescope.claims import Measured, Open
from edgescope.errors import UnknownNameError
from edgescope.experiments.central.flow_task import OPTIMIZER, START
from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.flows.averages import block_ratio
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import time_mean

AT_EDGE = 0.98
"""A flow whose sharpness over the threshold stays above this in the median is at its edge."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run of a :class:`~edgescope.experiments.central.flow_task.FlowTask`; everything is read from its record."""

    run: StudyRun

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def start(self) -> int | None:
        """The step at which the flows begin; None where the optimizer never began to oscillate."""
        found = self.run.record.info.get(START)
        return None if found is None else int(found)

    @property
    def flows(self) -> list[str]:
        """The names of the flows."""
        return list(self.run.record.config["flows"])

    @property
    def first_averaged(self) -> int:
        """The step from which averages over time are taken."""
        return (self.start or 0) + int(self.run.record.config["average_from"])

    def series(self, measure: str, part: str = "") -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Steps and values of a series, those that are finite; empty where the run has no such readings."""
        try:
            steps, values = self.run.record.series(measure, part)
        except UnknownNameError:
            return np.zeros(0, dtype=int), np.zeros(0)
        known = np.isfinite(values)
        return steps[known], values[known]

    def late(self, measure: str, part: str) -> Float[np.ndarray, " n"]:
        """The values from :attr:`first_averaged` on."""
        steps, values = self.series(measure, part)
        return values[steps >= self.first_averaged]

    @property
    def missing(self) -> Open | None:
        """Why nothing can be said of the flows; None where they were run to the end."""
        if self.start is None:
            return Open("the steps of the optimizer never began to alternate", "more steps, or a larger learning rate")
        if self.run.record.status == "diverged":
            return Open("the optimizer diverged", "a smaller learning rate")
        return None

    def missing_at_edge(self, flow: str) -> Open | None:
        """The same, and where the flow was not at its threshold in the part that is averaged."""
        if self.missing is not None:
            return self.missing
        sharpness = self.late("flow_sharpness", flow)
        median = float(np.median(sharpness)) if sharpness.size else math.nan
        if not median >= AT_EDGE:
            return Open(
                f"the flow is below its threshold (median ratio {median:.3g} from step {self.first_averaged} on)",
                "more steps, or a larger learning rate",
            )
        return None

    def average_ratio(self, measure: str, part: str, of: str = OPTIMIZER) -> Estimate:
        """The mean of one part of a measure over that of another, with an interval from blocks of the run."""
        (at, above), (also_at, below) = self.series(measure, part), self.series(measure, of)
        both = np.intersect1d(at, also_at)  # the optimizer may go on alone
        both = both[both >= self.first_averaged]
        above, below = above[np.isin(at, both)], below[np.isin(also_at, both)]
        return block_ratio(above, below, int(self.run.record.config["block"]))

    def last(self, measure: str, part: str) -> float:
        """The last value of a series; NaN without one."""
        values = self.series(measure, part)[1]
        return float(values[-1]) if values.size else math.nan

    def distance_ratio(self, flow: str, to: str) -> Measured | Open:
        """The last distance of a flow over that of another, in weights; beside it in outputs, and both distances."""
        if self.missing is not None:
            return self.missing
        distances = {name: self.last("flow_distance", name) for name in (flow, to)}
        outputs = {name: self.last("flow_output_distance", name) for name in (flow, to)}
        beside = {f"distance of the flow '{name}'": value for name, value in distances.items()}
        if not any(math.isnan(value) for value in outputs.values()):
            beside["the same ratio of distances in outputs"] = outputs[flow] / outputs[to]
        return Measured(Estimate.exact(distances[flow] / distances[to]), beside)

    def mean_sharpness(self) -> Estimate:
        """The mean over time of the sharpness at the averaged trajectory, over its threshold."""
        return time_mean(self.late("flow_sharpness", OPTIMIZER))


def compared(**tags: str | tuple[str, ...]) -> CaseSelection[ComparedRun]:
    """The runs with flows beside them that have these tags."""
    return tagged(kind="flows", **tags).map(ComparedRun)


def with_flows(each: CaseSelection[ComparedRun], *names: str) -> CaseSelection[ComparedRun]:
    """Of these those that have all of the named flows."""
    return each.map(lambda run: run if set(names) <= set(run.flows) else None)


def magnitude(estimate: Estimate, around: float = 1.0) -> Estimate:
    """|x - ``around``| of an estimate of x, with the interval that follows from that of x."""
    value = abs(estimate.value - around)
    if not estimate.known:
        return Estimate(value)
    ends = (abs(estimate.low - around), abs(estimate.high - around))
    low = 0.0 if estimate.low <= around <= estimate.high else min(ends)
    return Estimate(value, low, max(ends), estimate.samples, estimate.sampled)


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """The ratio of two numbers of at least 0 that are known within their intervals: the interval of all such ratios."""
    value = above.value / below.value if below.value else math.nan
    if not (above.known and below.known) or math.isnan(value):
        return Estimate(value)
    high = above.high / below.low if below.low > 0 else math.inf
    return Estimate(value, above.low / below.high, high)
