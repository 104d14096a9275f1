"""The user's network: does SAM flatten it, did the test error follow, and what does rescaling its layers change?"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgescope.claims import Measured, Open, Region
from edgescope.experiments.flatness.user_network import (
    SERIES,
    Pair,
    UserRuns,
    by_radius,
    by_seed,
    last,
    sharpness_ratio,
)
from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim

SAME = 1e-4
"""Relative change of a loss that is rounding in float32."""

FLATTER = Region(0.0, 1.0)
"""A sharpness under SAM over that under SGD."""


def _lowers(sharpness: str) -> TestedClaim[Pair]:
    """One measure of sharpness is smaller under SAM than under SGD, at every radius and seed."""

    @stated_claim(f"flatness.user-{sharpness}-falls", each=CaseSelection(by_radius).expand(by_seed))
    def lowers(pair: Pair) -> Measured:
        beside = {
            f"{name} under {method}": last(run, name)
            for name in (sharpness, "adaptive sharpness")
            for method, run in zip(("SAM", "SGD"), pair, strict=True)
        }
        return Measured(sharpness_ratio(pair, sharpness), beside)

    return lowers


@stated_claim("flatness.user-error-follows", each=CaseSelection(by_radius))
def user_error_follows(pairs: UserRuns) -> Measured | Open:
    sam, sgd = (np.array([last(run, "accuracy") for run in runs]) for runs in zip(*pairs, strict=True))
    beside = {"under SAM": sample_mean(sam), "under SGD": sample_mean(sgd)}
    ratios = [sharpness_ratio(pair, name) for pair in pairs for name in ("trace", "eigenvalue")]
    if any(FLATTER.judge(ratio) != "holds" for ratio in ratios):
        return Open("SAM did not flatten the network at this radius", "another radius, or more steps", beside=beside)
    return Measured(sample_mean(sam - sgd), beside)


@stated_claim("flatness.rescaling", each=tagged(role="rescaled"))
def rescaling(run: StudyRun) -> Measured | Open:
    if run.record.status != "finished":
        return Open("the run has not ended", "the rest of the run")
    values = {name: run.record.series(*SERIES[name])[1] for name in SERIES if name != "accuracy"}
    beside = {f"{name}, {word}": float(x[k]) for name, x in values.items() for word, k in (("first", 0), ("last", -1))}
    if abs(beside["loss, last"] / beside["loss, first"] - 1) > SAME:
        return Open("the loss changes: there is no relu between these layers", "a relu network", beside=beside)
    return Measured(Estimate.exact(beside["eigenvalue, last"] / beside["eigenvalue, first"]), beside)


USER_NETWORK: tuple[TestedClaim[Any], ...] = (_lowers("trace"), _lowers("eigenvalue"), user_error_follows, rescaling)
