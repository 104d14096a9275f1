"""The claims about the loss at the edge: it rises in single steps, falls over long spans, and both can be predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.studies.selection import tagged
from edgescope.studies.sources import COHEN_2021, ISLAMOV, MISHKIN
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tables import steps_of
from edgescope.studies.tested_claim import Measured, Open, claim
from edgescope.studies.threshold_series import AT_LEAST, ThresholdSeries

STEPS_NEEDED = 10 * AT_LEAST
"""Steps after arrival that the claims about the loss need."""

WHILE_THERE = (
    "The loss is recorded at every step. Oscillations at the edge grow from rounding, which takes a while, so that the "
    "second half of the steps after arrival is looked at. A run with fewer than 200 steps after arrival is open."
)


@dataclass(frozen=True, eq=False)
class LossAtEdge:
    """The training loss before arrival at the threshold and from then on."""

    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " m"]

    @classmethod
    def of(cls, run: StudyRun) -> LossAtEdge:
        series = ThresholdSeries.of(run)
        steps, loss = run.record.series("training_loss")
        place = len(loss) if series.arrival is None else int(np.searchsorted(steps, series.arrival_step))
        return cls(loss[:place], loss[place:])

    @property
    def missing(self) -> Open | None:
        """Why the claims about the loss cannot be decided, None where they can."""
        short = STEPS_NEEDED - len(self.after)
        if not len(self.after):
            return Open("never arrived at 2/η", "more steps")
        return Open(f"{len(self.after)} steps after arrival", f"about {short:,} more steps") if short > 0 else None


@claim(
    "edge.loss-rises-in-steps",
    sentence="At the edge the loss rises in single steps",
    source=COHEN_2021,
    quantity="share of the later steps that raise the loss",
    region=(0.1, 1.0),
    origin="ours: the paper says that the loss is not monotone, without a number",
    each=tagged(method="gd").map(LossAtEdge.of),
    figure="loss",
    how=WHILE_THERE,
)
def rises_in_steps(loss: LossAtEdge) -> Measured | Open:
    if loss.missing:
        return loss.missing
    rising = np.diff(loss.after) > 0
    share = Estimate.exact(rising[len(rising) // 2 :].mean())
    return Measured(share, {"the same before arrival": float((np.diff(loss.before) > 0).mean())})


@claim(
    "edge.loss-falls-over-time",
    sentence="At the edge the loss falls over long spans",
    source=COHEN_2021,
    quantity="median loss of the last tenth of the steps after arrival over that of the first tenth",
    region=(-np.inf, 0.9),
    origin="ours: the paper says that the loss falls, without a number",
    each=tagged(method="gd").map(LossAtEdge.of),
    figure="loss",
    how=WHILE_THERE,
)
def falls_over_time(loss: LossAtEdge) -> Estimate | Open:
    if loss.missing:
        return loss.missing
    span = max(20, len(loss.after) // 10)
    return Estimate.exact(np.median(loss.after[-span:]) / np.median(loss.after[:span]))


def changes(run: StudyRun) -> pl.DataFrame | None:
    """Loss changes of single steps, predicted and measured, beyond the rounding of the losses; None where there are
    none. Columns: predicted, measured, smoothness (over 2/η)."""
    table = steps_of({run.name: run.record})
    if "predicted" not in table.columns:
        return None
    rate = float(run.record.config["lr"])
    compared = table.filter(pl.col("actual").abs() > pl.col("rounding")).drop_nulls(["predicted", "smoothness"])
    return compared.select("predicted", measured="actual", smoothness=pl.col("smoothness") * rate / 2)


BY_PRODUCTS = (
    "The directional smoothness D comes from Hessian products along the step alone, not from the losses that it "
    "predicts. Steps whose change is lost in the rounding of the two losses are left out."
)


@claim(
    "edge.loss-change-predicted",
    sentence="The loss change of a step of gradient descent is -η (1 - ηD/2) |g|²",
    source=f"{MISHKIN}; {ISLAMOV}",
    quantity="90th percentile over steps of the relative error of the predicted change",
    region=(0.0, 0.02),
    origin="ours: an identity for exact D, which here is a quadrature along the step",
    status="derived",
    each=tagged(method="gd").map(changes),
    figure="changes",
    how=BY_PRODUCTS,
)
def predicted_change(table: pl.DataFrame) -> Measured | Open:
    if table.is_empty():
        return Open("no step whose change is beyond rounding", "steps earlier in training")
    error = ((table["predicted"] - table["measured"]).abs() / table["measured"].abs()).to_numpy()
    beside = {"steps compared": float(len(error)), "median": float(np.median(error))}
    return Measured(Estimate.exact(np.quantile(error, 0.9)), beside)


@claim(
    "edge.loss-change-sign",
    sentence="The loss rises in a step exactly when D exceeds 2/η",
    source=f"{MISHKIN}; {ISLAMOV}",
    quantity="share of steps with the predicted sign",
    region=(0.99, 1.0),
    origin="ours: an identity for exact D, which here is a quadrature along the step",
    status="derived",
    each=tagged(method="gd").map(changes),
    figure="changes",
    how=BY_PRODUCTS,
)
def predicted_sign(table: pl.DataFrame) -> Measured | Open:
    if table.is_empty():
        return Open("no step whose change is beyond rounding", "steps earlier in training")
    right = ((table["measured"] > 0) == (table["smoothness"] > 1)).mean()
    return Measured(Estimate.exact(float(right)), {"steps compared": float(len(table))})  # type: ignore[arg-type]
