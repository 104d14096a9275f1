"""The diagnosis of a model, loss and data before a run: the learning rate, warm-up, the limiting layer, thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgescope.advice.optimizer_thresholds import thresholds_section
from edgescope.advice.section import Section, unknown
from edgescope.monitor.reasons import CitedFigure, Reason

if TYPE_CHECKING:
    from edgescope.linalg import Eigenpairs
    from edgescope.tuning import LearningRateSuggestion

RATE = "Which learning rate should training use?"
CRITICAL = "At which learning rate does training become unstable?"
WARM_UP = "Is warm-up needed?"
BLOCK = "Which layer limits the steps?"
THRESHOLDS = "Where are optimizers unstable at the start?"
FLATNESS = "Does flatness matter here?"


def advise_problem(found: LearningRateSuggestion, pairs: Eigenpairs | None) -> tuple[Section, ...]:
    """The sections of a diagnosis before training.

    From the result of :func:`~edgescope.tuning.find_lr`, and the largest eigenpair of the Hessian of all data at the
    initial parameters (None where there is none). No cost.
    """
    sharpness = None if pairs is None else CitedFigure("sharpness", "1", 0, float(pairs.values[0]))
    return (
        _rate(found),
        _critical(found),
        _warm_up(found),
        _block(found),
        thresholds_section(THRESHOLDS, sharpness, "of all data at the start"),
        unknown(
            "flatness",
            FLATNESS,
            "A single problem does not tell: 'edgescope sweep' trains at many learning rates, and 'edgescope advise' of"
            " its folder compares sharpness and norm with the test loss",
        ),
    )


def _figure(part: str, value: float) -> CitedFigure:
    return CitedFigure("learning_rate", part, 0, value)


def _rate(found: LearningRateSuggestion) -> Section:
    best = _figure("suggested", found.suggested)
    if not found.trained:
        sentence = f"No rate that was tried lowers the loss; the lowest was {best}"
        return Section("rate", RATE, (Reason(sentence, (best,)),), known=False)
    low, high = _figure("low", found.low), _figure("high", found.high)
    sentence = f"{best} with {found.optimizer}; from {low} to {high} short runs are nearly as good"
    return Section("rate", RATE, (Reason(sentence, (best, low, high)),))


def _critical(found: LearningRateSuggestion) -> Section:
    stable, unstable = _figure("stable_up_to", found.stable_up_to), _figure("unstable_from", found.unstable_from)
    steps = Reason(
        f"Single steps raise the loss of their batch from {found.at_start} at the start, and from {found.after_warm_up}"
        " after warm-up (median, 10th to 90th percentile)",
        (_figure("at_start", found.at_start.median), _figure("after_warm_up", found.after_warm_up.median)),
    )
    if not any(trial.warm_up and not trial.lowered for trial in found.trials):
        sentence = f"Short runs lower the loss at all rates that were tried, up to {stable}"
        return Section("critical-rate", CRITICAL, (Reason(sentence, (stable,)), steps))
    sentence = f"Short runs lower the loss at {stable} and no longer at {unstable}"
    return Section("critical-rate", CRITICAL, (Reason(sentence, (stable, unstable)), steps))


def _warm_up(found: LearningRateSuggestion) -> Section:
    if not found.trained:
        return unknown("warm-up", WARM_UP, "Not known where no rate lowers the loss")
    best = _figure("suggested", found.suggested)
    answer = "Yes: without it" if found.warm_up_needed else "No:"
    then = "training is worse or diverges" if found.warm_up_needed else "training without it does as well"
    return Section("warm-up", WARM_UP, (Reason(f"{answer} {then} at {best}", (best,)),))


def _block(found: LearningRateSuggestion) -> Section:
    if not found.limiting_block:
        return unknown("block", BLOCK, "Not known: the curvature along the steps could not be shared out")
    share = _figure("share", found.share)
    sentence = f"'{found.limiting_block}', with {found.share:.0%} of the curvature along the steps"
    return Section("block", BLOCK, (Reason(sentence, (share,)),))
