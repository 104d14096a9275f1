"""The diagnosis of one run: regime, critical learning rate and its range, thresholds of optimizers, traps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from edgescope.advice.optimizer_thresholds import thresholds_section
from edgescope.advice.section import Section, unknown
from edgescope.monitor.reasons import CitedFigure, Reason
from edgescope.monitor.run_facts import RunFacts, Series
from edgescope.monitor.trapped import trap_signs
from edgescope.monitor.verdict import LEAST, RECENT, judge

if TYPE_CHECKING:
    from edgescope.store import Record

REGIME = "How stable was training at the end?"
CRITICAL = "At which learning rate would it have become unstable?"
RANGE = "Which learning rates are safe along the whole run?"
THRESHOLDS = "Where are other optimizers unstable at this sharpness?"
STAYED: Final = 1.25
"""The largest threshold over the smallest one, up to which the learning rate counts as constant."""

TRAPPED = "Does weight decay hold the network in a trap?"


def advise_run(record: Record) -> tuple[Section, ...]:
    """The sections of the diagnosis of a run, from its record alone.

    Raises :class:`MissingExtraError` without polars. No cost, as all was measured.
    """
    facts = RunFacts.of(record)
    verdict = judge(facts)
    advice = Reason(f"What to do: {verdict.advice}", ())
    regime = Section("regime", REGIME, (Reason(f"Regime: {verdict.regime}", ()), *verdict.reasons, advice))
    rates = critical_rate_series(facts)
    return (
        regime if verdict.regime != "not known" else Section("regime", REGIME, regime.reasons, known=False),
        _critical(facts, rates),
        _range(rates),
        _thresholds(facts),
        _trapped(facts),
    )


def critical_rate_series(facts: RunFacts) -> Series:
    """The critical learning rate along the run: of the steps on their own batch, else on all data, else by the ratio.

    By the ratio it is the learning rate over the ratio, which holds where the threshold is inversely proportional to
    the learning rate, and on all data: not where training takes mini-batches, nor where the learning rate may have
    changed. Values that are not finite, where the loss did not rise, are left out.
    """
    for part in ("critical_rate/batch", "critical_rate"):
        found = facts.series("headroom", part)
        if len(found.finite()) >= LEAST:
            return found.finite()
    ratio, lr = facts.series("ratio"), _learning_rate(facts)
    positive = np.isfinite(ratio.values) & (ratio.values > 0)
    usable = lr is not None and positive.sum() >= LEAST and not facts.mini_batches(0) and _threshold_stayed(facts)
    kept = positive if usable else np.zeros_like(positive)
    return Series("ratio", "", ratio.steps[kept], (lr or math.nan) / ratio.values[kept])


def _threshold_stayed(facts: RunFacts) -> bool:
    """Whether the threshold is known to have stayed the same, and with it the learning rate."""
    threshold = facts.series("threshold").finite()
    return len(threshold) >= LEAST and bool(threshold.values.max() <= STAYED * threshold.values.min())


def _critical(facts: RunFacts, rates: Series) -> Section:
    if not len(rates):
        return unknown(
            "critical-rate",
            CRITICAL,
            "There are too few readings of the measure 'headroom', or of 'ratio' and 'threshold' at a constant"
            " learning rate on all data",
        )
    recent = rates.values[-max(RECENT, len(rates) // 4) :]
    value, low, high = float(np.median(recent)), float(recent.min()), float(recent.max())
    cited = CitedFigure(rates.measure, rates.part, int(rates.steps[-1]), value)
    spread = f"between {low:.3g} and {high:.3g} over the last {len(recent)} readings"
    how = (
        "the learning rate over the ratio, for a threshold in inverse proportion to the learning rate"
        if rates.measure == "ratio"
        else "headroom: how far along its own step the loss could be followed before it rises"
    )
    reasons = [Reason(f"The critical learning rate at the end is {cited}, {spread} ({how})", (cited,))]
    lr = _learning_rate(facts)
    if lr is not None and _threshold_stayed(facts):
        reasons.append(Reason(f"The run used {lr:.3g}, {lr / value:.3g} times that", (cited,)))
    if never := _without_rise(facts, rates):
        reasons.append(
            Reason(f"These leave out {never} readings in which the loss did not rise however long the step", ())
        )
    return Section("critical-rate", CRITICAL, tuple(reasons))


def _without_rise(facts: RunFacts, rates: Series) -> int:
    """The number of readings with an infinite headroom."""
    if rates.measure != "headroom":
        return 0
    return int(np.isinf(facts.series("headroom", rates.part).values).sum())


def _range(rates: Series) -> Section:
    if not len(rates):
        return unknown("range", RANGE, "Not known without the critical learning rate")
    lowest, highest = int(np.argmin(rates.values)), int(np.argmax(rates.values))
    least = CitedFigure(rates.measure, rates.part, int(rates.steps[lowest]), float(rates.values[lowest]))
    most = CitedFigure(rates.measure, rates.part, int(rates.steps[highest]), float(rates.values[highest]))
    stable = "the ratio would have stayed below 1" if rates.measure == "ratio" else "no measured step raises the loss"
    sentences = [
        Reason(
            f"Along this run the critical learning rate was lowest, {least}, at step {least.step}, and highest, {most},"
            f" at step {most.step}",
            (least, most),
        ),
        Reason(
            f"On this path {stable} at a rate below {least}; another rate takes another path, to which the curvature"
            " adapts",
            (least,),
        ),
    ]
    early = rates.values[: max(1, len(rates) // 10)]
    if float(np.median(early)) < 0.7 * float(np.median(rates.values[len(rates) // 2 :])):
        first = CitedFigure(rates.measure, rates.part, int(rates.steps[0]), float(np.median(early)))
        sentences.append(
            Reason(f"It was lower at the start ({first}) than later: a warm-up may allow a larger rate", (first,))
        )
    return Section("range", RANGE, tuple(sentences))


def _thresholds(facts: RunFacts) -> Section:
    found = facts.series("sharpness", "1").finite()
    last = CitedFigure("sharpness", "1", int(found.steps[-1]), found.last) if len(found) else None
    return thresholds_section(THRESHOLDS, last, "at the end" if last is None else f"at step {last.step}")


def _trapped(facts: RunFacts) -> Section:
    if facts.weight_decay is None:
        return unknown("trapped", TRAPPED, "The record does not say what weight decay the optimizer has")
    if facts.weight_decay == 0:
        return Section("trapped", TRAPPED, (Reason("No: the optimizer has no weight decay", ()),))
    signs = trap_signs(facts)
    if signs is None:
        return unknown("trapped", TRAPPED, "Not known without readings of the measures 'norms' and 'loss'")
    cited = tuple(CitedFigure(s.measure, s.part, int(s.steps[-1]), s.last) for s in (signs.norms, signs.losses))
    start = "It looks so" if signs.trapped else "There is no sign of it"
    return Section("trapped", TRAPPED, (Reason(start, ()), Reason(str(signs), cited)))


def _learning_rate(facts: RunFacts) -> float | None:
    """The learning rate at the start, where all groups have one and the same."""
    rates = {group.get("lr") for group in facts.groups}
    (lr,) = rates if len(rates) == 1 else (None,)
    return float(lr) if isinstance(lr, int | float) and math.isfinite(lr) and lr > 0 else None
