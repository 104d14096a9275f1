"""The claims about the edge of stability of gradient descent, momentum, adaptive methods and gradient flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.studies.edge.loss_changes import falls_over_time, predicted_change, predicted_sign, rises_in_steps
from edgescope.studies.selection import Item, Selection, run_tagged, tagged
from edgescope.studies.sources import COHEN_2021, COHEN_2022
from edgescope.studies.study_run import Runs, StudyRun
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, Topic, claim
from edgescope.studies.threshold_series import ThresholdSeries

SETTLED = Region.around(1.0, 0.10)
PLATEAU = (
    "10%, the tolerance of Matveev et al. 2025, claim 2; the plateaus in the figures of Cohen et al. 2021 lie "
    "between 0.98 and 1.10"
)
TIME_MEAN = (
    "The mean of all readings from the first one at or above the threshold, with an interval that takes their "
    "autocorrelation into account. A run that never arrives, or has fewer than 20 readings from then on, is open."
)
RISE = (
    "Between the lowest sharpness before arrival at the threshold and arrival. A run that starts so close to its "
    "threshold that there is no such span is open."
)


def before_arrival(run: StudyRun) -> Float[np.ndarray, " n"]:
    """The readings of the sharpness from the lowest one before arrival at the threshold up to arrival."""
    _, sharpness = run.record.series("sharpness", "1")
    end = ThresholdSeries.of(run).arrival
    before = sharpness[: end + 1] if end is not None else sharpness
    return before[int(np.argmin(before)) :]


@claim(
    "edge.sharpens",
    sentence="Before it reaches the threshold the sharpness rises (progressive sharpening)",
    source=COHEN_2021,
    quantity="sharpness at arrival over the lowest before",
    region=(1.2, np.inf),
    origin="ours: the paper says that it rises, without a number",
    each=tagged(method="gd"),
    figure="sharpness",
    how=RISE,
)
def sharpens(run: StudyRun) -> Estimate | Open:
    rising = before_arrival(run)
    if len(rising) <= 3:
        return Open("starts too close to its threshold", "a smaller learning rate", float(rising[-1] / rising[0]))
    return Estimate.exact(rising[-1] / rising[0])


@claim(
    "edge.sharpens-steadily",
    sentence="The sharpness rises steadily on its way to the threshold",
    source=COHEN_2021,
    quantity="Kendall's τ of sharpness and step before arrival",
    region=(0.5, 1.0),
    origin="ours: the paper shows curves, without a number",
    each=tagged(method="gd"),
    figure="sharpness",
    how=RISE,
)
def sharpens_steadily(run: StudyRun) -> Estimate | Open:
    rising = before_arrival(run)
    if len(rising) <= 3:
        return Open("starts too close to its threshold", "a smaller learning rate")
    return Estimate.exact(kendalltau(np.arange(len(rising)), rising).statistic)


@dataclass(frozen=True)
class BesideFlow:
    """A run of gradient descent, and gradient flow from the same parameters."""

    descent: StudyRun
    flow: StudyRun


def _beside_flow(runs: Runs) -> list[Item[BesideFlow]]:
    flow = run_tagged(runs, method="flow")
    if flow is None:
        return []
    found = tagged(method="gd", network=flow.tags["network"])(runs)
    return [Item(item.name, BesideFlow(item.value, flow), item.factors) for item in found]


@claim(
    "edge.flow-sharpens-further",
    sentence="Gradient flow, which has no threshold, sharpens past the values at which gradient descent stays",
    source=COHEN_2021,
    quantity="largest sharpness of gradient flow over 2/η",
    region=(1.1, np.inf),
    origin="ours: beyond the 10% within which gradient descent settles",
    each=Selection(_beside_flow),
    figure="sharpness",
    how="Gradient flow starts from the same parameters and is integrated by an adaptive Runge-Kutta method whose step "
    "is bounded by the sharpness. A run of gradient descent that never arrives at 2/η is open.",
)
def flow_sharpens_further(pair: BesideFlow) -> Measured | Open:
    highest = float(pair.flow.record.series("sharpness", "1")[1].max())
    ratio = highest * float(pair.descent.record.config["lr"]) / 2
    series = ThresholdSeries.of(pair.descent)
    if series.arrival is None:
        return Open("gradient descent never arrived at 2/η", "more steps of gradient descent", ratio)
    return Measured(Estimate.exact(ratio), {"sharpness over 2/η of gradient descent, mean": series.mean})


def _settles(method: str, id: str, sentence: str, source: str, figure: str) -> TestedClaim[ThresholdSeries]:
    @claim(
        id,
        sentence=sentence,
        source=source,
        quantity="mean over time of sharpness over threshold",
        region=SETTLED,
        origin=PLATEAU,
        each=tagged(method=method).map(ThresholdSeries.of),
        figure=figure,
        how=TIME_MEAN,
    )
    def settles(series: ThresholdSeries) -> Measured | Estimate | Open:
        mean = series.mean_after_arrival()
        if isinstance(mean, Open):
            return mean
        after = series.after
        return Measured(mean, {"lowest": float(after.min()), "highest": float(after.max())})

    return settles


gd_settles = _settles(
    "gd",
    "edge.gd-settles",
    "Under gradient descent the sharpness settles at 2/η, for every learning rate and both networks",
    COHEN_2021,
    "settled",
)
polyak_settles = _settles(
    "polyak", "edge.polyak-settles", "Under Polyak momentum it settles at (2 + 2β)/η", COHEN_2021, "optimizers"
)
nesterov_settles = _settles(
    "nesterov",
    "edge.nesterov-settles",
    "Under Nesterov momentum it settles at (2 + 2β)/((1 + 2β) η)",
    COHEN_2021,
    "optimizers",
)
rmsprop_settles = _settles(
    "rmsprop",
    "edge.rmsprop-settles",
    "Under RMSProp the sharpness in the metric of the preconditioner settles at 2/η",
    COHEN_2022,
    "optimizers",
)
adam_settles = _settles(
    "adam",
    "edge.adam-settles",
    "Under Adam the sharpness in the metric of the preconditioner settles at 38/η",
    COHEN_2022,
    "optimizers",
)

TOPICS = (
    Topic("On the way to the threshold", (sharpens, sharpens_steadily, flow_sharpens_further)),
    Topic("At the threshold", (gd_settles, polyak_settles, nesterov_settles, rmsprop_settles, adam_settles)),
    Topic("What the loss does there", (rises_in_steps, falls_over_time, predicted_change, predicted_sign)),
)
