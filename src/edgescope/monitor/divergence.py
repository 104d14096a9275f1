"""Whether a run has diverged by steps beyond the edge: its loss is not finite, or a thousand times its first value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgescope.monitor.reasons import CitedFigure, Reason, Regime
from edgescope.monitor.run_facts import RunFacts, Series

NEAR: Final = 0.1
"""The ratio settles within this of 1 at the edge of stability (the region of the study ``edge``)."""

NEAR_IN_BATCHES: Final = 0.2
"""As :data:`NEAR`, of the batch sharpness and of the headroom on a step's own batch, which vary from batch to batch."""

EXPLODED: Final = 1e3
"""By what factor the loss is above its first value where a run that was beyond the edge has diverged, level or not."""


@dataclass(frozen=True)
class Divergence:
    """The regime of a run whose loss has exploded, why, and what to try; no ``advice``: that of the regime."""

    regime: Regime
    reason: Reason
    advice: str


def divergence_of(run: RunFacts, losses: Series, ratios: Series, recent: Series) -> Divergence | None:
    """How a run has diverged, from its losses, its ratios and those of ``recent`` readings; None where it has not."""
    if run.diverged_at is not None:
        return _not_finite(run, run.diverged_at, losses.finite(), recent.finite())
    known = losses.finite()
    if not len(known) or not known.values[0] > 0:
        return None
    factor, found = known.last / float(known.values[0]), _beyond(run, ratios.finite(), 0)
    if factor < EXPLODED or found is None:
        return None
    top, words = found
    last = CitedFigure("loss", "train", int(known.steps[-1]), known.last)
    sentence = f"The loss is {last}, {factor:.2g} times its first value, and {words}"
    return Divergence("beyond it and diverging", Reason(sentence, (last, top)), _stable_rate(run, top))


def _beyond(run: RunFacts, ratios: Series, since: int) -> tuple[CitedFigure, str] | None:
    """The figure by which a step was beyond the edge, and its words: the ratio, else that of steps on mini-batches."""
    if len(ratios):
        top = _highest(ratios)
        if top.value > 1 + NEAR:
            return top, f"the ratio was {top} at step {top.step}"
    of_steps = run.series("batch_ratio").finite().since(since)
    if len(of_steps):
        top = _highest(of_steps)
        if top.value > 1 + NEAR_IN_BATCHES:
            words = f"on its own mini-batch a step used {top} of its headroom at step {top.step} (batch_ratio)"
            return top, words
    return None


def _not_finite(run: RunFacts, step: int, losses: Series, recent: Series) -> Divergence:
    gone = f"The loss or the parameters were not finite at step {step}"
    found = _beyond(run, recent, int(recent.steps[0]) if len(recent) else 0)
    if found is not None:
        top, words = found
        return Divergence("beyond it and diverging", Reason(f"{gone}, and {words}", (top,)), _stable_rate(run, top))
    if not len(recent):
        loss = CitedFigure("loss", "train", int(losses.steps[-1]), losses.last) if len(losses) else None
        before = "" if loss is None else f" after a loss of {loss} at step {loss.step}"
        reason = Reason(f"{gone}{before}, and no ratio was measured", () if loss is None else (loss,))
        return Divergence("not known", reason, "every=1 from the start, to see the ratio before that step")
    top = _highest(recent)  # a curvature may vanish where outputs burst
    reason = Reason(f"{gone}, though the ratio was at most {top} (step {top.step}) before", (top,))
    advice = "every=1 near that step; a step in the learning rate, the precision or the data may be why"
    return Divergence("not known", reason, advice)


def _stable_rate(run: RunFacts, ratio: CitedFigure) -> str:
    """The advice with the rate in figures, where the ratio is that of the rate that the record has."""
    if ratio.measure != "ratio":
        return "a much smaller learning rate (edgescope lr finds one), a warm-up, or clipping"
    rate = run.learning_rate
    if rate is None or ratio.step != 0 or not math.isfinite(rate / ratio.value):
        return ""
    return f"a learning rate below {rate / ratio.value:.2g}, the first one over the ratio, a warm-up, or clipping"


def _highest(series: Series) -> CitedFigure:
    place = int(np.argmax(series.values))
    return CitedFigure(series.measure, series.part, int(series.steps[place]), float(series.values[place]))
