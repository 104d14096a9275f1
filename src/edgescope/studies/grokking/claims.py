"""The claims about grokking: what the sharpness dimension and other measures do as networks begin to generalize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.claims import Measured, Open
from edgescope.errors import InputError
from edgescope.experiments.grokking.training_curves import (
    COEFFICIENT,
    LEARNED,
    MEASURES,
    NEAR,
    TrainingCurves,
    grokked_curves,
    training_curves,
)
from edgescope.experiments.selection import CaseSelection, Item
from edgescope.experiments.study_run import Runs
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall_difference import kendall_difference
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import Topic


@stated_claim("grokking.memorise-first", each=training_curves())
def memorise_first(run: TrainingCurves) -> Measured:
    beside = {f"training accuracy reached {LEARNED:.0%} at step": float(run.steps[run.began])}
    if run.grokked:
        beside["steepest rise of the test accuracy at step"] = float(run.steps[run.jump])
    return Measured(Estimate.exact(run.reached), beside | {"final test accuracy": float(run.test[-1])})


@stated_claim("grokking.follows-gap", each=grokked_curves())
def follows_gap(run: TrainingCurves) -> Measured | Open:
    taus = {label: run.correlation(label) for label in MEASURES}
    others = [name for name in ("lifetime sum", "trace", "largest eigenvalue") if np.isfinite(taus[name])]
    if not others:
        return Open("not measured")
    columns = run.common("SD", max(others, key=lambda name: taus[name]))
    try:
        return Measured(kendall_difference(*(column.tolist() for column in columns)), taus)
    except InputError as error:
        return Open(str(error))


def _all_grokked(runs: Runs) -> list[Item[Sequence[TrainingCurves]]]:
    found = [item.value for item in grokked_curves()(runs)]
    return [Item("all that grokked", found)] if found else []


@stated_claim("grokking.rds-follows-worse", each=CaseSelection(_all_grokked))
def rds_follows_worse(runs: Sequence[TrainingCurves]) -> Measured | Open:
    leads = {run.name: run.correlation("SD") - run.correlation("RDS sharpness") for run in runs}
    known = [lead for lead in leads.values() if np.isfinite(lead)]
    beside = {f"τ(SD) - τ(RDS sharpness), {name}": lead for name, lead in leads.items()}
    if len(known) < 2:
        return Open("fewer than two runs grokked", "more runs", beside=beside)
    return Measured(Estimate.exact(sum(lead <= 0 for lead in known)), beside)


def _tau(values: Float[np.ndarray, " n"]) -> float:
    """Kendall's tau of values with their order; NaN for fewer than five."""
    known = np.isfinite(values)
    return float(scipy.stats.kendalltau(np.flatnonzero(known), values[known]).statistic) if known.sum() > 4 else np.nan


def _exact(value: float) -> Estimate | Open:
    return Estimate.exact(value) if np.isfinite(value) else Open("too few checkpoints", "more checkpoints")


@stated_claim("grokking.rises-before-jump", each=grokked_curves())
def rises_before_jump(run: TrainingCurves) -> Estimate | Open:
    return _exact(_tau(run.measures["SD"][run.began : run.jump + 1]))


@stated_claim("grokking.drops-at-jump", each=grokked_curves())
def drops_at_jump(run: TrainingCurves) -> Estimate | Open:
    values = run.measures["SD"]
    window = values[max(0, run.jump - NEAR) : run.jump + NEAR + 2]
    known = np.isfinite(values).any() and len(window) > 1
    return _exact(float(np.nanmax(-np.diff(window)) / np.ptp(values[np.isfinite(values)])) if known else np.nan)


@stated_claim("grokking.rises-after-jump", each=grokked_curves())
def rises_after_jump(run: TrainingCurves) -> Estimate | Open:
    return _exact(_tau(run.measures["SD"][run.jump + NEAR + 1 :]))


def _other_measures(run: TrainingCurves) -> list[Item[Float[np.ndarray, " n"]]]:
    labels = ("largest eigenvalue", "trace", "lifetime sum")
    return [Item(f"{run.name}, {label}", run.measures[label][run.began :], {"measure": label}) for label in labels]


@stated_claim("grokking.others-fall", each=grokked_curves().expand(_other_measures))
def others_fall(values: Float[np.ndarray, " n"]) -> Estimate | Open:
    return _exact(_tau(values))


@stated_claim("grokking.clearest-change", each=grokked_curves())
def clearest_change(run: TrainingCurves) -> Measured | Open:
    changes = {label: run.change(label) for label in MEASURES}
    others = [changes[name] for name in MEASURES if name not in ("SD", "RDS sharpness") and np.isfinite(changes[name])]
    both = min(changes["SD"], changes["RDS sharpness"])
    if not others or not np.isfinite(both):
        return Open("not measured", beside=changes)
    return Measured(Estimate.exact(both / max(others)), changes)


@stated_claim("grokking.moves-before", each=grokked_curves())
def moves_before(run: TrainingCurves) -> Measured | Open:
    half = _halfway(run.test[run.began :])
    ahead = {label: half - _halfway(run.measures[label][run.began :]) for label in MEASURES}
    dimension = ahead.pop("SD")
    if not np.isfinite(dimension):
        return Open("the dimension ends where it began", beside=ahead)
    return Measured(Estimate.exact(dimension), ahead)


NOT_MEASURED = Open("the learning coefficient was not measured, or its chains had not mixed", "the preset full")


@stated_claim("grokking.coefficient-changes-at-jump", each=grokked_curves())
def coefficient_changes_at_jump(run: TrainingCurves) -> Measured | Open:
    change = run.change(COEFFICIENT) if np.isfinite(run.measures[COEFFICIENT]).sum() > 4 else np.nan
    if not np.isfinite(change):
        return NOT_MEASURED
    return Measured(Estimate.exact(change), {label: run.change(label) for label in MEASURES})


@stated_claim("grokking.coefficient-moves-first", each=grokked_curves())
def coefficient_moves_first(run: TrainingCurves) -> Measured | Open:
    dimension, coefficient = (_halfway(run.measures[label][run.began :]) for label in ("SD", COEFFICIENT))
    if not np.isfinite(coefficient):
        return NOT_MEASURED
    if not np.isfinite(dimension):
        return Open("the dimension ends where it began")
    before_test = _halfway(run.test[run.began :]) - coefficient
    return Measured(
        Estimate.exact(dimension - coefficient),
        {"checkpoints by which the coefficient moves before the test accuracy": before_test},
    )


def _halfway(values: Float[np.ndarray, " n"]) -> float:
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return np.nan
    first, last = values[known[0]], values[known[-1]]
    passed = known[(values[known] - first) * np.sign(last - first) >= abs(last - first) / 2]
    return float(passed[0]) if passed.size and last != first else np.nan


TOPICS = (
    Topic("Grokking", (memorise_first,)),
    Topic("Measures and the gap over training", (follows_gap, rds_follows_worse)),
    Topic(
        "At the jump",
        (rises_before_jump, drops_at_jump, rises_after_jump, others_fall, clearest_change, moves_before),
    ),
    Topic("The learning coefficient", (coefficient_changes_at_jump, coefficient_moves_first)),
)
