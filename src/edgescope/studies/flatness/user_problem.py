"""The user's network: does SAM flatten it, did the test error follow, and what does rescaling its layers change?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.selection import Item, Selection, grouped, tagged
from edgescope.studies.study_run import Runs, StudyRun
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim

SAME = 1e-4
"""Relative change of a loss that is rounding in float32."""

SERIES = {
    "trace": ("hessian_trace", ""),
    "eigenvalue": ("sharpness", "1"),
    "adaptive sharpness": ("worst_case_sharpness", ""),
    "loss": ("loss", "train"),
    "accuracy": ("accuracy", "test"),
}
FLATTER = Region(0.0, 1.0)

Pair = tuple[StudyRun, StudyRun]
"""A run of the user's network by SAM, and the one by SGD from the same seed."""

UserProblem = Sequence[Pair]
"""All seeds of the user's network at one radius of SAM."""


def last(run: StudyRun, name: str) -> float:
    """The last value of a series; NaN without one."""
    return _last(run, name)[0]


def _last(run: StudyRun, name: str) -> tuple[float, float]:
    """The last value of a series and its error; NaN and 0 without one."""
    measure, part = SERIES[name]
    table = run.record.table().filter(pl.col("part") == part, pl.col("value").is_not_null(), measure=measure)
    if table.is_empty():
        return np.nan, 0.0
    end = table.sort("step").row(-1, named=True)
    return float(end["value"]), float(end["error"] or 0.0)


def _ratio(pair: Pair, name: str) -> Estimate:
    """A sharpness under SAM over that under SGD, with the interval of the two measurements."""
    (sam, sam_error), (sgd, sgd_error) = (_last(run, name) for run in pair)
    reach = 1.96 * float(np.hypot(sam_error, sam / sgd * sgd_error)) / sgd
    return Estimate(sam / sgd, sam / sgd - reach, sam / sgd + reach)


def _by_radius(runs: Runs) -> list[Item[UserProblem]]:
    plain = {item.factors["seed"]: item.value for item in tagged(role="user", method="SGD")(runs)}
    items: list[Item[UserProblem]] = []
    for item in grouped("rho", role="user", method="SAM")(runs):
        both = [(run, plain[run.tags["seed"]]) for run in item.value if run.tags["seed"] in plain]
        ended = [pair for pair in both if all(run.record.status == "finished" for run in pair)]
        items += [Item(f"radius {item.name}", ended, item.factors)] if ended else []
    return items


BY_RADIUS: Selection[UserProblem] = Selection(_by_radius)


def _by_seed(problem: UserProblem) -> list[Item[Pair]]:
    return [Item(f"radius {sam.tags['rho']}, seed {sam.tags['seed']}", (sam, sgd), sam.tags) for sam, sgd in problem]


NETWORK = "Network, data and loss are those of the options of the study, which the factors of a case name."


def _lowers(id: str, name: str, words: str) -> TestedClaim[Pair]:
    """One measure of sharpness is smaller under SAM than under SGD, at every radius and seed."""

    def measure(pair: Pair) -> Measured:
        who = {"SAM": pair[0], "SGD": pair[1]}
        beside = {
            f"{what} under {k}": last(run, what) for what in (name, "adaptive sharpness") for k, run in who.items()
        }
        return Measured(_ratio(pair, name), beside)

    return claim(
        f"flatness.{id}",
        sentence=f"SAM lowers {words} of the network of the user's choice",
        source="the general question",
        quantity=f"{words} under SAM over that under SGD",
        region=FLATTER,
        origin="ours: smaller than under SGD",
        status="ours",
        each=BY_RADIUS.expand(_by_seed),
        figure="user-problem",
        how="A case for each radius and seed, at the end of equally many steps from the same start; the interval is "
        f"that of the two measurements. {NETWORK}",
    )(measure)


@claim(
    "flatness.user-error-follows",
    sentence="Where SAM flattens the network of the user's choice, the test error falls",
    source="the general question",
    quantity="test accuracy under SAM less that under SGD with the same seed",
    region=(1e-4, np.inf),
    origin="ours: above zero; the accuracy on 10,000 samples changes by steps of 0.0001",
    status="ours",
    each=BY_RADIUS,
    figure="user-problem",
    how="Mean over seeds of the paired differences, by Student's t; intervals of few seeds are wide. Open at a radius "
    f"at which SAM does not lower both the trace and the largest eigenvalue in every seed. {NETWORK}",
)
def user_error_follows(problem: UserProblem) -> Measured | Open:
    sam, sgd = (np.array([last(run, "accuracy") for run in runs]) for runs in zip(*problem, strict=True))
    beside = {"under SAM": sample_mean(sam), "under SGD": sample_mean(sgd)}
    ratios = [_ratio(pair, name) for pair in problem for name in ("trace", "eigenvalue")]
    if any(FLATTER.judge(ratio) != "holds" for ratio in ratios):
        return Open("SAM did not flatten the network at this radius", "another radius, or more steps", beside=beside)
    return Measured(sample_mean(sam - sgd), beside)


@claim(
    "flatness.rescaling",
    sentence="Rescaling the layers of a relu network changes its sharpness, and not the function",
    source="Dinh et al. 2017 (arXiv 1703.04933)",
    quantity="largest eigenvalue of the Hessian after rescaling over that before",
    region=(2.0, np.inf),
    origin="ours: more than twice; the paper has any factor",
    each=tagged(role="rescaled"),
    how="The first layer is multiplied by 8, the second divided by it. Open where the loss changes by more than "
    f"{SAME:g}, relatively: then there is no relu between these layers. Adaptive sharpness, given beside, does not "
    f"change, up to the search for its maximum. {NETWORK}",
)
def rescaling(run: StudyRun) -> Measured | Open:
    if run.record.status != "finished":
        return Open("the run has not ended", "the rest of the run")
    values = {name: run.record.series(*SERIES[name])[1] for name in SERIES if name != "accuracy"}
    beside = {f"{name}, {word}": float(x[k]) for name, x in values.items() for word, k in (("first", 0), ("last", -1))}
    if abs(beside["loss, last"] / beside["loss, first"] - 1) > SAME:
        return Open("the loss changes: there is no relu between these layers", "a relu network", beside=beside)
    return Measured(Estimate.exact(beside["eigenvalue, last"] / beside["eigenvalue, first"]), beside)


USER_PROBLEM: tuple[TestedClaim[Any], ...] = (
    _lowers("user-trace-falls", "trace", "the trace of the Hessian"),
    _lowers("user-eigenvalue-falls", "eigenvalue", "the largest eigenvalue of the Hessian"),
    user_error_follows,
    rescaling,
)
