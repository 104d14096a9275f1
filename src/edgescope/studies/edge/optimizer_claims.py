"""The claims about optimizers as they are used in practice: NAdam, Lion, pairs of optimizers, SAM, clipped descent."""

from __future__ import annotations

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.edge.own_edges import lowest_over_plain, over_sam_edge
from edgescope.experiments.edge.settled_headroom import settled_headroom
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.medians import time_median
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import Topic


def settles(series: ThresholdSeries) -> Measured | Open:
    """The mean over time from arrival on, with the lowest and the highest value."""
    mean = series.mean_after_arrival()
    if isinstance(mean, Open):
        return mean
    return Measured(mean, {"lowest": float(series.after.min()), "highest": float(series.after.max())})


nadam_settles = stated_claim("edge.nadam-settles", each=tagged(method="nadam").map(ThresholdSeries.of))(settles)
sam_settles = stated_claim("edge.sam-settles", each=tagged(method="sam").map(over_sam_edge))(settles)
clipped_settles = stated_claim("edge.clipped-settles", each=tagged(method="clipped").map(ThresholdSeries.of))(settles)


@stated_claim("edge.clipped-exceeds", each=tagged(method="clipped"))
def clipped_exceeds(run: StudyRun) -> Estimate | Open:
    lowest = lowest_over_plain(run)
    if np.isnan(lowest):
        return Open("never arrived at 2‖g‖/(ηc)", "more steps")
    return Estimate.exact(lowest)


@stated_claim("edge.pair-settles", each=tagged(method="polyak+adamw"))
def pair_settles(run: StudyRun) -> Measured | Open:
    joint = ThresholdSeries.of(run)
    mean = joint.mean_after_arrival()
    if isinstance(mean, Open):
        return mean
    beside = {}
    for part in ("SGD", "AdamW"):
        steps, values = run.record.series("ratio", part)
        if (later := values[steps >= joint.arrival_step]).size:
            beside[f"ratio of {part} alone, mean"] = float(later.mean())
    return Measured(mean, beside)


@stated_claim("edge.muon-exceeds", each=tagged(method="muon+adamw"))
def muon_exceeds(run: StudyRun) -> Measured | Open:
    series = ThresholdSeries.of(run)
    if series.arrival is None:
        return Open("the joint ratio never reached 1", "more steps", float(series.ratio.max(initial=0.0)))
    later = series.after[series.after.size // 2 :]
    _, loss = run.record.series("training_loss")
    half = loss[loss.size // 2 :]
    beside = {"median": float(np.median(later)), "loss at the end over the loss half-way": float(half[-1] / half[0])}
    return Measured(Estimate.exact(later.min()), beside)


def headroom_settles(run: StudyRun) -> Measured | Open:
    """The median over time of one over the headroom, with the middle 80% of its readings."""
    late = settled_headroom(run)
    if isinstance(late, Open):
        return late
    median = time_median(late)
    if not median.known:
        return Open("still drifting: its readings are not independent", "a longer run", median.value)
    low, high = np.quantile(late, [0.1, 0.9])
    return Measured(median, {"lowest tenth": float(low), "highest tenth": float(high)})


lion_headroom, muon_headroom, others_headroom = (
    stated_claim(f"edge.{name}", each=tagged(method=methods))(headroom_settles)
    for name, methods in (
        ("lion-headroom", ("lion",)),
        ("muon-headroom", ("muon+adamw",)),
        ("headroom-settles", ("nadam", "polyak+adamw", "sam", "clipped")),
    )
)

OPTIMIZER_TOPICS = (
    Topic(
        "Optimizers as they are used, at their thresholds",
        (nadam_settles, pair_settles, sam_settles, clipped_settles, clipped_exceeds, muon_exceeds),
    ),
    Topic("Headroom, which needs no threshold", (lion_headroom, muon_headroom, others_headroom)),
)
