"""The claims about steepest descent in other norms: the flow of two points, a rejected hypothesis, locked entries."""

from __future__ import annotations

from edgescope.claims import Measured, Open
from edgescope.experiments.central.compared_run import ComparedRun, compared, magnitude, quotient, with_flows
from edgescope.experiments.central.followed_flow import MULTIPLIER, STABLE, TWO_POINT
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

WITHIN = 100
"""Steps from the edge within which coordinates are said to be locked."""

NORMS = compared(method=("linf", "sign", "spectral"))
LINF = compared(method="linf")


@stated_claim("central.two-point-follows", each=with_flows(NORMS, TWO_POINT, STABLE))
def two_point_follows(run: ComparedRun) -> Measured | Open:
    return run.distance_ratio(TWO_POINT, STABLE)


@stated_claim("central.two-point-loss", each=with_flows(NORMS, TWO_POINT, STABLE))
def two_point_loss(run: ComparedRun) -> Measured | Open:
    if run.missing:
        return run.missing
    predicted = magnitude(run.average_ratio("flow_loss", f"{TWO_POINT}/predicted"))
    stable = magnitude(run.average_ratio("flow_loss", STABLE))
    beside = {"relative error of the two-point flow": predicted, "relative error of the stable flow": stable}
    return Measured(quotient(predicted, stable), beside)


@stated_claim("central.multiplier-linf", each=with_flows(LINF, MULTIPLIER, STABLE))
def multiplier_linf(run: ComparedRun) -> Measured | Open:
    return run.distance_ratio(MULTIPLIER, STABLE)


@stated_claim("central.linf-locks", each=LINF)
def linf_locks(run: ComparedRun) -> Measured | Open:
    if run.missing or run.start is None:
        return run.missing or Open("the flows never began")
    steps, locked = run.series("locked")
    near = locked[steps <= run.start + WITHIN]
    if not near.size:
        return Open("no step after the edge", "more steps")
    beside = {"at the first step": float(near[0]), "at the last of these steps": float(near[-1])}
    return Measured(Estimate.exact(near.max()), beside)


IN_OTHER_NORMS = (two_point_follows, two_point_loss, multiplier_linf, linf_locks)
