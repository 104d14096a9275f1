"""The claims about the edge of stability of gradient descent, momentum, adaptive methods and gradient flow."""

from __future__ import annotations

import numpy as np
import polars as pl
import scipy

from edgescope.claims import Measured, Open
from edgescope.experiments.edge.loss_changes import LossAtEdge, loss_changes
from edgescope.experiments.edge.sharpening import BesideFlow, beside_flow, rising_sharpness
from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import Topic

DESCENT = tagged(method="gd")


@stated_claim("edge.sharpens", each=DESCENT)
def sharpens(run: StudyRun) -> Estimate | Open:
    rising = rising_sharpness(run)
    if len(rising) <= 3:
        return Open("starts too close to its threshold", "a smaller learning rate", float(rising[-1] / rising[0]))
    return Estimate.exact(rising[-1] / rising[0])


@stated_claim("edge.sharpens-steadily", each=DESCENT)
def sharpens_steadily(run: StudyRun) -> Estimate | Open:
    rising = rising_sharpness(run)
    if len(rising) <= 3:
        return Open("starts too close to its threshold", "a smaller learning rate")
    return Estimate.exact(scipy.stats.kendalltau(np.arange(len(rising)), rising).statistic)


@stated_claim("edge.flow-sharpens-further", each=CaseSelection(beside_flow))
def flow_sharpens_further(pair: BesideFlow) -> Measured | Open:
    highest = float(pair.flow.record.series("sharpness", "1")[1].max())
    ratio = highest * float(pair.descent.record.config["lr"]) / 2
    series = ThresholdSeries.of(pair.descent)
    if series.arrival is None:
        return Open("gradient descent never arrived at 2/η", "more steps of gradient descent", ratio)
    return Measured(Estimate.exact(ratio), {"sharpness over 2/η of gradient descent, mean": series.mean})


def settles(series: ThresholdSeries) -> Measured | Open:
    """The mean over time from arrival on, with the lowest and the highest value."""
    mean = series.mean_after_arrival()
    if isinstance(mean, Open):
        return mean
    return Measured(mean, {"lowest": float(series.after.min()), "highest": float(series.after.max())})


SETTLING = tuple(
    stated_claim(f"edge.{method}-settles", each=tagged(method=method).map(ThresholdSeries.of))(settles)
    for method in ("gd", "polyak", "nesterov", "rmsprop", "adam")
)


@stated_claim("edge.loss-rises-in-steps", each=DESCENT.map(LossAtEdge.of))
def rises_in_steps(loss: LossAtEdge) -> Measured | Open:
    if loss.missing:
        return loss.missing
    rising = np.diff(loss.after) > 0
    share = Estimate.exact(rising[len(rising) // 2 :].mean())
    return Measured(share, {"the same before arrival": float((np.diff(loss.before) > 0).mean())})


@stated_claim("edge.loss-falls-over-time", each=DESCENT.map(LossAtEdge.of))
def falls_over_time(loss: LossAtEdge) -> Estimate | Open:
    if loss.missing:
        return loss.missing
    span = max(20, len(loss.after) // 10)
    return Estimate.exact(np.median(loss.after[-span:]) / np.median(loss.after[:span]))


NO_STEP = Open("no step whose change is beyond rounding", "steps earlier in training")


@stated_claim("edge.loss-change-predicted", each=DESCENT.map(loss_changes))
def predicted_change(table: pl.DataFrame) -> Measured | Open:
    if table.is_empty():
        return NO_STEP
    error = ((table["predicted"] - table["measured"]).abs() / table["measured"].abs()).to_numpy()
    beside = {"steps compared": float(len(error)), "median": float(np.median(error))}
    return Measured(Estimate.exact(np.quantile(error, 0.9)), beside)


@stated_claim("edge.loss-change-sign", each=DESCENT.map(loss_changes))
def predicted_sign(table: pl.DataFrame) -> Measured | Open:
    if table.is_empty():
        return NO_STEP
    right = ((table["measured"] > 0) == (table["smoothness"] > 1)).mean()
    return Measured(Estimate.exact(float(right)), {"steps compared": float(len(table))})  # type: ignore[arg-type]


TOPICS = (
    Topic("On the way to the threshold", (sharpens, sharpens_steadily, flow_sharpens_further)),
    Topic("At the threshold", SETTLING),
    Topic("What the loss does there", (rises_in_steps, falls_over_time, predicted_change, predicted_sign)),
)
