"""The claims about what a central flow predicts of averages over time: loss, gradient, variance, preconditioner."""

from __future__ import annotations

from edgescope.claims import Measured, Open
from edgescope.experiments.central.compared_run import ComparedRun, compared, magnitude, with_flows
from edgescope.experiments.central.flow_task import OPTIMIZER
from edgescope.experiments.central.followed_flow import CENTRAL, CORRECTED, STABLE
from edgescope.statistics.estimate import Estimate
from edgescope.studies.central.trajectory_claims import momentum_follows
from edgescope.studies.stated_claim import stated_claim

DESCENT = compared(method="gd")
RMSPROP = with_flows(compared(method="rmsprop"), CENTRAL)


def _predicted(run: ComparedRun, measure: str) -> Measured | Open:
    """The predicted mean over the measured one; beside it that of the corrected flow, and of the stable one."""
    missing = run.missing_at_edge(CENTRAL)
    if missing:
        return missing
    beside: dict[str, float | Estimate] = {}
    if CORRECTED in run.flows:
        beside["with the correction"] = run.average_ratio(measure, f"{CORRECTED}/predicted")
    if STABLE in run.flows:
        beside["the stable flow's own value over the measured mean"] = run.average_ratio(measure, STABLE)
    return Measured(run.average_ratio(measure, f"{CENTRAL}/predicted"), beside)


@stated_claim("central.gd-loss", each=with_flows(DESCENT, CENTRAL))
def gd_loss(run: ComparedRun) -> Measured | Open:
    return _predicted(run, "flow_loss")


@stated_claim("central.flow-misses-loss", each=with_flows(DESCENT, CENTRAL, STABLE))
def flow_misses_loss(run: ComparedRun) -> Estimate | Open:
    return run.missing_at_edge(CENTRAL) or magnitude(run.average_ratio("flow_loss", STABLE))


@stated_claim("central.gd-gradient-square", each=with_flows(DESCENT, CENTRAL))
def gd_gradient_square(run: ComparedRun) -> Measured | Open:
    return _predicted(run, "flow_gradient_square")


@stated_claim("central.flow-misses-gradient-square", each=with_flows(DESCENT, CENTRAL, STABLE))
def flow_misses_gradient_square(run: ComparedRun) -> Estimate | Open:
    return run.missing_at_edge(CENTRAL) or run.average_ratio("flow_gradient_square", OPTIMIZER, STABLE)


@stated_claim("central.gd-covariance", each=with_flows(DESCENT, CENTRAL))
def gd_covariance(run: ComparedRun) -> Measured | Open:
    missing = run.missing_at_edge(CENTRAL)
    if missing:
        return missing
    beside: dict[str, float | Estimate] = {}
    if run.late("flow_variance", f"{CENTRAL}/2").size:
        beside["along the second axis"] = run.average_ratio("flow_variance", f"{CENTRAL}/2/predicted", f"{CENTRAL}/2")
    if CORRECTED in run.flows:
        beside["with the correction"] = run.average_ratio("flow_variance", f"{CORRECTED}/1/predicted", f"{CORRECTED}/1")
    return Measured(run.average_ratio("flow_variance", f"{CENTRAL}/1/predicted", f"{CENTRAL}/1"), beside)


@stated_claim("central.momentum-loss", each=with_flows(compared(method="momentum"), CENTRAL))
def momentum_loss(run: ComparedRun) -> Measured | Open:
    return _predicted(run, "flow_loss")


@stated_claim("central.rmsprop-follows", each=with_flows(RMSPROP, STABLE))
def rmsprop_follows(run: ComparedRun) -> Measured | Open:
    return run.missing_at_edge(CENTRAL) or run.distance_ratio(CENTRAL, STABLE)


@stated_claim("central.rmsprop-loss", each=RMSPROP)
def rmsprop_loss(run: ComparedRun) -> Measured | Open:
    return _predicted(run, "flow_loss")


@stated_claim("central.rmsprop-preconditioner", each=RMSPROP)
def rmsprop_preconditioner(run: ComparedRun) -> Measured | Open:
    missing = run.missing_at_edge(CENTRAL)
    if missing:
        return missing
    beside: dict[str, float | Estimate] = {}
    if run.late("flow_preconditioner", STABLE).size:
        beside["of the stable flow"] = run.average_ratio("flow_preconditioner", STABLE)
    return Measured(run.average_ratio("flow_preconditioner", CENTRAL), beside)


OF_DESCENT = (gd_loss, flow_misses_loss, gd_gradient_square, flow_misses_gradient_square, gd_covariance)
OF_MOMENTUM = (momentum_follows, momentum_loss)
OF_RMSPROP = (rmsprop_follows, rmsprop_loss, rmsprop_preconditioner)
