"""The claims about mini-batches: how far below 2/η the sharpness settles, against a formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgescope.claims import Measured, Open
from edgescope.experiments.central.gap_terms import MEASURE
from edgescope.experiments.selection import grouped
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import time_mean
from edgescope.studies.stated_claim import stated_claim

FULL, HALF, QUARTER = "all", "half", "quarter"
"""The tag ``batch``."""


def over_formula(runs: Sequence[StudyRun], batch: str) -> Measured | Open | None:
    """The mean gap at ``batch`` less that on the full batch, over the mean of the formula."""
    by_batch = {run.tags["batch"]: run for run in runs}
    if batch not in by_batch or FULL not in by_batch:
        return None
    found = {name: time_mean(by_batch[name].record.series(MEASURE, "measured")[1]) for name in (batch, FULL)}
    formula = time_mean(by_batch[batch].record.series(MEASURE, "predicted")[1])
    if math.isnan(found[batch].value) or math.isnan(found[FULL].value) or math.isnan(formula.value):
        return Open("no reading of the gap", "more steps")
    value = found[batch].value - found[FULL].value
    beside = {
        "gap": found[batch],
        "gap on the full batch": found[FULL],
        "formula": formula,
        "with noise of the curvature": time_mean(by_batch[batch].record.series(MEASURE, "with curvature noise")[1]),
    }
    ratio = value / formula.value
    if not (found[batch].known and found[FULL].known and formula.known):
        return Open("its readings are not independent", "a longer run", ratio, beside)
    if formula.low <= 0:
        return Open("the formula is zero within its error", "a longer run", ratio, beside)
    # Errors of the first order: those of the difference, and of the formula below it.
    above = math.hypot(found[batch].half_width, found[FULL].half_width) / formula.value
    reach = math.hypot(above, ratio * formula.half_width / formula.value)
    return Measured(Estimate(ratio, ratio - reach, ratio + reach, formula.samples, "readings"), beside)


@stated_claim("central.gap-half", each=grouped("group", kind="gap"))
def gap_half(runs: Sequence[StudyRun]) -> Measured | Open | None:
    return over_formula(runs, HALF)


@stated_claim("central.gap-quarter", each=grouped("group", kind="gap"))
def gap_quarter(runs: Sequence[StudyRun]) -> Measured | Open | None:
    return over_formula(runs, QUARTER)


ON_MINI_BATCHES = (gap_half, gap_quarter)
