"""The claims about gradient descent and momentum: how near the flow stays, and what it never does."""

from __future__ import annotations

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.central.compared_run import ComparedRun, compared, with_flows
from edgescope.experiments.central.flow_task import OPTIMIZER
from edgescope.experiments.central.followed_flow import CENTRAL, CORRECTED, STABLE
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

DESCENT = compared(method="gd")


@stated_claim("central.gd-follows", each=with_flows(DESCENT, CENTRAL, STABLE))
def gd_follows(run: ComparedRun) -> Measured | Open:
    return run.missing_at_edge(CENTRAL) or run.distance_ratio(CENTRAL, STABLE)


@stated_claim("central.gd-corrected", each=with_flows(DESCENT, CORRECTED, STABLE))
def gd_corrected(run: ComparedRun) -> Measured | Open:
    return run.missing_at_edge(CORRECTED) or run.distance_ratio(CORRECTED, STABLE)


@stated_claim("central.correction-halves", each=with_flows(DESCENT, CORRECTED, CENTRAL))
def correction_halves(run: ComparedRun) -> Measured | Open:
    return run.missing_at_edge(CORRECTED) or run.distance_ratio(CORRECTED, CENTRAL)


@stated_claim("central.gd-within-threshold", each=with_flows(DESCENT, CENTRAL))
def within_threshold(run: ComparedRun) -> Measured | Open:
    missing = run.missing_at_edge(CENTRAL)
    if missing:
        return missing
    beside = {
        "largest value of Sη/2 at the averaged trajectory": float(run.series("flow_sharpness", OPTIMIZER)[1].max())
    }
    if CORRECTED in run.flows:
        beside["with the correction"] = float(run.series("flow_sharpness", CORRECTED)[1].max())
    return Measured(Estimate.exact(run.series("flow_sharpness", CENTRAL)[1].max()), beside)


@stated_claim("central.gd-midpoints-at-threshold", each=DESCENT)
def midpoints_at_threshold(run: ComparedRun) -> Measured | Open:
    if run.missing:
        return run.missing
    values = run.late("flow_sharpness", OPTIMIZER)
    if not values.size or not values.max() >= 1:
        return Open("the averaged trajectory never reached the threshold", "more steps, or a larger learning rate")
    return Measured(run.mean_sharpness(), {"lowest": float(values.min()), "highest": float(values.max())})


@stated_claim("central.gd-loss-falls", each=with_flows(DESCENT, CENTRAL))
def loss_falls(run: ComparedRun) -> Measured | Open:
    missing = run.missing_at_edge(CENTRAL)
    if missing:
        return missing
    loss = run.series("flow_loss", CENTRAL)[1]
    rises = np.diff(loss) / loss[:-1]
    beside = {"share of units of time in which it rises": float((rises > 0).mean())}
    return Measured(Estimate.exact(rises.max()), beside)


@stated_claim("central.momentum-follows", each=with_flows(compared(method="momentum"), CENTRAL, STABLE))
def momentum_follows(run: ComparedRun) -> Measured | Open:
    return run.missing_at_edge(CENTRAL) or run.distance_ratio(CENTRAL, STABLE)


FOLLOWING = (gd_follows, gd_corrected, correction_halves)
ALONG_THE_FLOW = (within_threshold, midpoints_at_threshold, loss_falls)
