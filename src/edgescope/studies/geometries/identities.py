"""The claims that are identities: the loss change of every step, and descent on quadratics."""

from __future__ import annotations

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.geometries.quadratics import QuadraticRun, quadratic_runs
from edgescope.experiments.geometries.steps import StepLossChanges
from edgescope.experiments.selection import tagged
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

ROUNDINGS = 100.0
"""Units of rounding of η|g|*² (normalized: η|g|*) that a predicted loss change may be off: sums of thousands of
products round by some tens."""


@stated_claim(
    "geometries.descent-identity", each=tagged(role=("descent", "chen"), precision="float64").map(StepLossChanges.of)
)
def descent_identity(steps: StepLossChanges) -> Measured | Open:
    kept = steps.by_differences
    if not kept.any():
        return Open("no step whose D is resolved by differences of losses", "larger steps")
    miss = np.abs(steps.first + steps.second - steps.actual)[kept]
    relative = np.maximum(miss - steps.rounding[kept], 0.0) / np.abs(steps.first[kept])
    return Measured(Estimate.exact(relative.max()), {"steps": float(kept.sum())})


@stated_claim("geometries.rises-exactly-above", each=tagged(role=("descent", "chen")).map(StepLossChanges.of))
def rises_exactly_above(steps: StepLossChanges) -> Measured | Open:
    clear = np.abs(steps.actual) > steps.rounding
    if not clear.any():
        return Open("every loss change is lost in rounding", "steps earlier in training")
    predicted = steps.first + steps.second
    wrong = clear & ((steps.actual > 0) != (predicted > 0))
    beyond = np.abs(predicted - steps.actual) > steps.rounding + ROUNDINGS * steps.precision * np.abs(steps.first)
    rose = float((clear & (steps.actual > 0)).sum())
    beside = {
        "steps compared": float(clear.sum()),
        "of them rises": rose,
        "wrong within rounding": float((wrong & ~beyond).sum()),
    }
    return Measured(Estimate.exact((wrong & beyond).sum()), beside)


QUADRATIC = tagged(role="quadratics").expand(quadratic_runs)


@stated_claim("geometries.quadratic-growth", each=QUADRATIC)
def quadratic_growth(run: QuadraticRun) -> Estimate:
    return Estimate.exact(np.max(np.abs(run.above - run.line) / run.line))


@stated_claim("geometries.quadratic-diverges", each=QUADRATIC)
def quadratic_diverges(run: QuadraticRun) -> Estimate:
    return Estimate.exact(run.above[-1])


@stated_claim("geometries.quadratic-falls", each=QUADRATIC)
def quadratic_falls(run: QuadraticRun) -> Estimate:
    return Estimate.exact(np.diff(run.below).max())


@stated_claim("geometries.quadratic-converges", each=QUADRATIC)
def quadratic_converges(run: QuadraticRun) -> Estimate:
    return Estimate.exact(run.below[-1])


IDENTITIES = (descent_identity, rises_exactly_above)
QUADRATICS = (quadratic_growth, quadratic_diverges, quadratic_falls, quadratic_converges)
