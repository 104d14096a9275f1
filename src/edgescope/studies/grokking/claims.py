"""The claims about grokking: what the sharpness dimension and other measures do as networks begin to generalize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau

from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall_difference import kendall_difference
from edgescope.studies.grokking.training_curves import GROKKED, LEARNED, MEASURES, NEAR, TrainingCurves
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.sources import TUCI
from edgescope.studies.study_run import Runs
from edgescope.studies.tested_claim import Measured, Open, Topic, claim

ALL = tagged(role="training").map(TrainingCurves.of)
OF_GROKKED = ALL.map(lambda run: run if run.grokked else None)
JUMP = (
    "The jump is where the test accuracy rises most over three checkpoints. The claim speaks of runs that grokked, "
    "from the checkpoint at which half of the training data are learned."
)
OUR_LIMIT = "ours: the paper shows curves, without a number"
ABOVE_ZERO = (0.0, 1.0)


@claim(
    "grokking.memorise-first",
    sentence="The networks memorise first and generalise much later",
    source="Power et al. 2022 (arXiv 2201.02177)",
    quantity="highest test accuracy after half of the training data are learned at a test accuracy below 10%",
    region=(GROKKED, 1.0),
    origin="ours: the paper shows curves, without a number",
    each=ALL,
    how="0 where the training data are never half learned while the test accuracy is below 10%. The learning rates and "
    "decays were chosen so that grokking occurs within the time, on accuracies alone.",
)
def memorise_first(run: TrainingCurves) -> Measured:
    beside = {f"training accuracy reached {LEARNED:.0%} at step": float(run.steps[run.began])}
    if run.grokked:
        beside["steepest rise of the test accuracy at step"] = float(run.steps[run.jump])
    return Measured(Estimate.exact(run.reached), beside | {"final test accuracy": float(run.test[-1])})


@claim(
    "grokking.follows-gap",
    sentence="Over training the dimension follows the gap as well as lifetime sums, trace and sharpness, or better",
    source=f"{TUCI}, claim 6",
    quantity="Kendall's τ of the dimension with the accuracy gap less the best of the others",
    region=(-0.1, 2.0),
    origin="ours: 0.1 behind still counts as as well",
    each=OF_GROKKED,
    how="Over the checkpoints from the one at which half of the training data are learned; the interval is that of the "
    "bootstrap over checkpoints, resampled in common for both measures.",
)
def follows_gap(run: TrainingCurves) -> Measured | Open:
    taus = {label: run.correlation(label) for label in MEASURES}
    others = [name for name in ("lifetime sum", "trace", "largest eigenvalue") if np.isfinite(taus[name])]
    return _difference(run, "SD", max(others, key=lambda name: taus[name]), taus) if others else Open("not measured")


def _difference(run: TrainingCurves, first: str, second: str, beside: dict[str, float]) -> Measured | Open:
    columns = run.common(first, second)
    try:
        return Measured(kendall_difference(*(column.tolist() for column in columns)), beside)
    except InputError as error:
        return Open(str(error))


@claim(
    "grokking.rds-follows-worse",
    sentence="The RDS sharpness of order 1 follows the gap worse than the dimension, in all but one configuration",
    source=f"{TUCI}, claim 6",
    quantity="configurations in which it follows the gap as well or better",
    region=(0, 1),
    origin="the paper: all but one",
    unit="runs",
    each=Selection(lambda runs: _all_grokked(runs)),
    how="Kendall's τ over the checkpoints from the one at which half of the training data are learned, of each run "
    "that grokked. Open with fewer than two of them.",
)
def rds_follows_worse(runs: Sequence[TrainingCurves]) -> Measured | Open:
    leads = {run.name: run.correlation("SD") - run.correlation("RDS sharpness") for run in runs}
    known = [lead for lead in leads.values() if np.isfinite(lead)]
    beside = {f"τ(SD) - τ(RDS sharpness), {name}": lead for name, lead in leads.items()}
    if len(known) < 2:
        return Open("fewer than two runs grokked", "more runs", beside=beside)
    return Measured(Estimate.exact(sum(lead <= 0 for lead in known)), beside)


def _all_grokked(runs: Runs) -> list[Item[Sequence[TrainingCurves]]]:
    found = [item.value for item in OF_GROKKED(runs)]
    return [Item("all that grokked", found)] if found else []


def _tau(values: Float[np.ndarray, " n"]) -> float:
    """Kendall's tau of values with their order; NaN for fewer than five."""
    known = np.isfinite(values)
    return float(kendalltau(np.flatnonzero(known), values[known]).statistic) if known.sum() > 4 else np.nan


def _exact(value: float, why: str = "too few checkpoints") -> Estimate | Open:
    return Estimate.exact(value) if np.isfinite(value) else Open(why, "more checkpoints")


@claim(
    "grokking.rises-before-jump",
    sentence="The dimension rises before the jump",
    source=f"{TUCI}, claim 7",
    quantity="Kendall's τ of the dimension with the step before the jump",
    region=ABOVE_ZERO,
    origin=OUR_LIMIT,
    each=OF_GROKKED,
    how=JUMP,
)
def rises_before_jump(run: TrainingCurves) -> Estimate | Open:
    return _exact(_tau(run.measures["SD"][run.began : run.jump + 1]))


@claim(
    "grokking.drops-at-jump",
    sentence="The dimension drops sharply at the jump",
    source=f"{TUCI}, claim 7",
    quantity="largest drop between checkpoints at the jump over the range of the dimension",
    region=(0.2, 1.0),
    origin=OUR_LIMIT,
    each=OF_GROKKED,
    how=f"{JUMP} At the jump means within {NEAR} checkpoints of it.",
)
def drops_at_jump(run: TrainingCurves) -> Estimate | Open:
    values = run.measures["SD"]
    window = values[max(0, run.jump - NEAR) : run.jump + NEAR + 2]
    known = np.isfinite(values).any() and len(window) > 1
    return _exact(float(np.nanmax(-np.diff(window)) / np.ptp(values[np.isfinite(values)])) if known else np.nan)


@claim(
    "grokking.rises-after-jump",
    sentence="The dimension rises again after the jump",
    source=f"{TUCI}, claim 7",
    quantity="Kendall's τ of the dimension with the step after the jump",
    region=ABOVE_ZERO,
    origin=OUR_LIMIT,
    each=OF_GROKKED,
    how=JUMP,
)
def rises_after_jump(run: TrainingCurves) -> Estimate | Open:
    return _exact(_tau(run.measures["SD"][run.jump + NEAR + 1 :]))


def _other_measures(run: TrainingCurves) -> list[Item[Float[np.ndarray, " n"]]]:
    labels = ("largest eigenvalue", "trace", "lifetime sum")
    return [Item(f"{run.name}, {label}", run.measures[label][run.began :], {"measure": label}) for label in labels]


@claim(
    "grokking.others-fall",
    sentence="Sharpness, trace and lifetime sum fall monotonically",
    source=f"{TUCI}, claim 7",
    quantity="Kendall's τ of the measure with the step",
    region=(-1.0, -0.5),
    origin=OUR_LIMIT,
    each=OF_GROKKED.expand(_other_measures),
    how=JUMP,
)
def others_fall(values: Float[np.ndarray, " n"]) -> Estimate | Open:
    return _exact(_tau(values))


@claim(
    "grokking.clearest-change",
    sentence="The sudden change is clearest in the RDS sharpness and in the dimension",
    source=f"{TUCI}, claim 8",
    quantity="smaller change of these two at the jump over the largest of the other measures",
    region=(1.0, np.inf),
    origin="the order of the changes; the paper's statement is visual",
    each=OF_GROKKED,
    how=f"The change is the largest between checkpoints within {NEAR} of the jump over the median one of the run. "
    f"{JUMP}",
)
def clearest_change(run: TrainingCurves) -> Measured | Open:
    changes = {label: run.change(label) for label in MEASURES}
    others = [changes[name] for name in MEASURES if name not in ("SD", "RDS sharpness") and np.isfinite(changes[name])]
    both = min(changes["SD"], changes["RDS sharpness"])
    if not others or not np.isfinite(both):
        return Open("not measured", beside=changes)
    return Measured(Estimate.exact(both / max(others)), changes)


@claim(
    "grokking.moves-before",
    sentence="The dimension moves before the test accuracy does",
    source="question of this study",
    quantity="checkpoints by which the dimension passes the middle of its way before the test accuracy does",
    region=(1, np.inf),
    origin="ours: at least one checkpoint ahead",
    status="ours",
    unit="checkpoints",
    each=OF_GROKKED,
    how="The way of a quantity goes from its value at the checkpoint at which half of the training data are learned to "
    "its last one.",
)
def moves_before(run: TrainingCurves) -> Measured | Open:
    half = _halfway(run.test[run.began :])
    ahead = {label: half - _halfway(values[run.began :]) for label, values in run.measures.items()}
    dimension = ahead.pop("SD")
    if not np.isfinite(dimension):
        return Open("the dimension ends where it began", beside=ahead)
    return Measured(Estimate.exact(dimension), ahead)


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
)
