"""The claims about mini-batches: how far below 2/η the sharpness settles, against a formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgescope.claims import Measured, Open
from edgescope.experiments.central.gap_terms import MeanGap
from edgescope.experiments.selection import grouped
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

FULL, HALF, QUARTER = "all", "half", "quarter"
"""The tag ``batch``."""


def over_formula(runs: Sequence[StudyRun], batch: str) -> Measured | Open | None:
    """The mean gap at ``batch`` less that on the full batch, over the mean of the formula."""
    by_batch = {run.tags["batch"]: run for run in runs}
    if batch not in by_batch or FULL not in by_batch:
        return None
    own = MeanGap.of(by_batch[batch])
    gap, baseline, formula = own.measured, MeanGap.of(by_batch[FULL]).measured, own.formula
    beside: dict[str, float | Estimate] = {"gap": gap, "gap on the full batch": baseline, "formula": formula}
    value = gap.value - baseline.value
    if math.isnan(value):
        return Open("no reading of the gap", "more steps")
    if math.isnan(formula.value):
        return Open("the sharpness does not rise between oscillations, so that α is not positive", "", beside=beside)
    beside["the formula with the noise of the curvature"] = own.with_curvature_noise
    ratio = value / formula.value
    if not (gap.known and baseline.known and formula.known):
        return Open("its readings are not independent", "a longer run", ratio, beside)
    if formula.low <= 0:
        return Open("the formula is zero within its error", "a longer run", ratio, beside)
    # Errors of the first order: those of the difference, and of the formula below it.
    above = math.hypot(gap.half_width, baseline.half_width) / formula.value
    reach = math.hypot(above, ratio * formula.half_width / formula.value)
    return Measured(Estimate(ratio, ratio - reach, ratio + reach, formula.samples, "readings"), beside)


@stated_claim("central.gap-half", each=grouped("group", kind="gap"))
def gap_half(runs: Sequence[StudyRun]) -> Measured | Open | None:
    return over_formula(runs, HALF)


@stated_claim("central.gap-quarter", each=grouped("group", kind="gap"))
def gap_quarter(runs: Sequence[StudyRun]) -> Measured | Open | None:
    return over_formula(runs, QUARTER)


ON_MINI_BATCHES = (gap_half, gap_quarter)
