"""Whether a network has stopped to learn before it had learned: its units are dead, or its loss has come to rest."""

from __future__ import annotations

from typing import Final

from edgescope.monitor.reasons import CitedFigure, Reason
from edgescope.monitor.run_facts import RunFacts, Series

UNLEARNED: Final = 0.5
"""The loss, as a share of its first value, above which little was learned."""

NOT_BELOW: Final = 0.95
"""The same above which nothing was learned."""

ABOVE: Final = 1.05
"""The same above which training has made it worse."""

FLATTENED: Final = 0.6
"""The ratio, as a share of its largest, below which steps have led to a flatter place."""

VANISHED: Final = 1e-2
"""The gradient norm, as a share of its largest, below which training has come to rest."""

FALLS: Final = -0.6
"""Kendall's tau of losses that fall from reading to reading, as after a first rise, and not by noise."""

LEAST: Final = 3
"""Readings of the loss below which nothing is told."""


def collapse_of(run: RunFacts, ratios: Series, since: int) -> Reason | None:
    """That the network does not learn any more; None where that is not seen.

    Either many parameters have no gradient (:func:`~edgescope.monitor.checks.check_dead_units`) while the loss is at
    least half of its first value, or the ratio was above 1 before ``since`` and has fallen, while the loss is no lower
    than at the start and does not fall: steps beyond the edge have led to a flat place.
    """
    found = _loss(run, since)
    if found is None:
        return None
    share, loss, falls = found
    says = f"the loss is {loss}, {share:.2g} times its first value"
    if run.dead_since is not None and share >= UNLEARNED:
        found_dead = f"At step {run.dead_since} the gradient of many parameters was exactly 0 (the notes name them)"
        return Reason(f"{found_dead}: units are dead or saturated, and {says}", (loss,))
    known = ratios.finite()
    early, after = known.before(since), known.since(since)
    if share < NOT_BELOW or falls or not len(early) or not len(after):
        return None
    place = int(early.values.argmax())
    top, now = float(early.values[place]), after.median
    if top <= 1.1 or now > FLATTENED * top or now > 1.1:
        return None
    peak = CitedFigure("ratio", "", int(early.steps[place]), top)
    cited = CitedFigure("ratio", "", int(after.steps[-1]), now)
    sentence = (
        f"The ratio was {peak} at step {peak.step} and is {cited} now, and yet {says}: steps beyond the edge have led"
        " to a flat place, where nothing is learned"
    )
    return Reason(sentence, (peak, cited, loss))


def rest_of(run: RunFacts, since: int) -> Reason | None:
    """That the gradient has gone though little was learned: where the model cannot fit better, or its units are off."""
    found, gradients = _loss(run, since), run.series("gradient_norm").finite()
    if found is None or len(gradients) < LEAST:
        return None
    share, loss, falls = found
    left = gradients.last / (float(gradients.values.max()) or 1.0)
    if share < UNLEARNED or falls or left > VANISHED:
        return None
    norm = CitedFigure("gradient_norm", "", int(gradients.steps[-1]), gradients.last)
    sentence = (
        f"The gradient norm has fallen to {norm}, {left:.2g} of its largest, while the loss stays at {loss},"
        f" {share:.2g} times its first value: training has come to rest"
    )
    return Reason(sentence, (norm, loss))


def above_start(run: RunFacts, since: int) -> tuple[Reason, bool] | None:
    """That the recent loss is above its first value, and whether it falls; None where it is not above."""
    found = _loss(run, since)
    if found is None or found[0] < ABOVE:
        return None
    share, loss, falls = found
    return Reason(f"The median of the recent losses, {loss}, is {share:.3g} times the first one", (loss,)), falls


def _loss(run: RunFacts, since: int) -> tuple[float, CitedFigure, bool] | None:
    """The median of the recent losses as a share of the first one, that median, and whether they fall."""
    losses = run.series("loss", "train").finite()
    recent = losses.since(since)
    if len(losses) < LEAST or not len(recent) or not losses.values[0] > 0:
        return None
    trend = recent.trend()
    loss = CitedFigure("loss", "train", int(recent.steps[-1]), recent.median)
    return loss.value / float(losses.values[0]), loss, trend is not None and trend.down and trend.tau <= FALLS
