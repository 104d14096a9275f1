"""The regime of a training run, by fixed rules from the readings of its record, with the figures that it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from edgescope.monitor.collapse import above_start, collapse_of, rest_of
from edgescope.monitor.divergence import NEAR, NEAR_IN_BATCHES, divergence_of
from edgescope.monitor.reasons import ADVICE, CitedFigure, Reason, Regime, Verdict
from edgescope.monitor.run_facts import RunFacts, Series, Trend
from edgescope.monitor.trapped import trap_signs

if TYPE_CHECKING:
    from edgescope.store import Record

RESTART: Final = "a start with a smaller learning rate, a warm-up or another initialization"
"""What to try where a network does not learn."""

LEAST: Final = 3
"""Readings of the ratio below which a run has no verdict, unless it diverged or is saturated."""

RECENT: Final = 5
"""Readings at the end of a run, at least, that a verdict is about; of a long run a quarter."""

GROWTH: Final = 1.5
"""By what factor the loss has grown where a run diverges, and to above its first value: below it is a mere spike."""

ADDED_UP: Final = 0.2
"""The share of its headroom, on its own mini-batch, below which a step is stable also where momentum adds steps up."""

FITTED_ADVICE: Final = "nothing, as the data are fitted; what the learning rate did shows in earlier readings"
"""What to try where the curvature has gone with the loss."""

FITTED: Final = 1e-2
"""The share of its first value to which the loss has fallen in a saturated run whose curvature falls with it."""


def verdict_of(record: Record) -> Verdict:
    """The verdict on a run from its record. Raises :class:`MissingExtraError` without polars. No cost."""
    return judge(RunFacts.of(record))


def judge(run: RunFacts) -> Verdict:
    """The verdict on a run from what its record has."""
    return _Judge(run).verdict()


@dataclass
class _Judge:
    """One run under the rules, which are tried in the order of :meth:`verdict`."""

    run: RunFacts
    reasons: list[Reason] = field(default_factory=list)
    adds_up: bool = False

    def __post_init__(self) -> None:
        run = self.run
        threshold, ratio = run.series("threshold"), run.series("ratio")
        at_rate_zero = threshold.steps[np.isinf(threshold.values)]
        kept = ~np.isin(ratio.steps, at_rate_zero)  # where the ratio is 0, whatever the curvature
        self.all_ratios = Series("ratio", "", ratio.steps[kept], ratio.values[kept])
        self.rate_is_zero = bool(len(at_rate_zero)) and at_rate_zero[-1] == run.last_step
        steps = self.all_ratios.steps if len(self.all_ratios) else run.series("loss", "train").steps
        recent = min(len(steps), max(RECENT, len(steps) // 4))
        self.since = int(steps[-recent]) if recent else 0
        self.ratio = self.all_ratios.since(self.since)
        self.threshold = Series(
            "threshold", "", *(a[np.isfinite(threshold.values)] for a in (threshold.steps, threshold.values))
        ).since(self.since)
        self.all_losses = run.series("loss", "train")
        self.loss = self.all_losses.since(self.since)
        self.sharpness = self._sharpness().since(self.since)

    # ------------------------------------------------------------------------------------------------------ the rules

    def verdict(self) -> Verdict:
        regime, advice = (
            self._diverged()
            or self._trapped()
            or self._collapsed()
            or self._saturated()
            or self._no_ratio()
            or self._by_headroom_or_ratio()
        )
        advice = self._no_better_than_the_start(regime, advice)
        self._limits()
        return Verdict(regime, tuple(self.reasons), advice or ADVICE[regime], self.run.last_step)

    def _no_better_than_the_start(self, regime: Regime, advice: str) -> str:
        """The advice where training hovers above its first loss, at whatever regime it has come to."""
        if regime in ("trapped", "saturated", "beyond it and diverging"):
            return advice
        if regime == "not known" and not self.adds_up:
            return advice
        found = above_start(self.run, self.since)
        if found is None:
            return advice
        reason, falls = found
        self.reasons.append(reason)
        return f"nothing while the loss falls; else {RESTART}" if falls and not self.rate_is_zero else RESTART

    def _diverged(self) -> tuple[Regime, str] | None:
        found = divergence_of(self.run, self.all_losses, self.all_ratios, self.ratio)
        if found is None:
            return None
        self.reasons.append(found.reason)
        return found.regime, found.advice

    def _collapsed(self) -> tuple[Regime, str] | None:
        found = collapse_of(self.run, self.all_ratios, self.since)
        if found is None:
            return None
        self.reasons.append(found)
        return "saturated", RESTART

    def _trapped(self) -> tuple[Regime, str] | None:
        signs = trap_signs(self.run)
        if signs is None or not signs.trapped:
            return None
        self._say(str(signs), self._cite(signs.norms), self._cite(signs.losses))
        return "trapped", ""

    def _saturated(self) -> tuple[Regime, str] | None:
        sharpness, ratios = self.run.series("sharpness", "1"), self.all_ratios
        if len(sharpness) and sharpness.last == 0:
            cited = self._cite(sharpness)
            self._say(
                f"The sharpness is exactly {cited}: the losses are below their rounding error, or units are dead", cited
            )
            return "saturated", ""
        losses = self.all_losses.values
        if len(ratios) < LEAST or len(losses) < LEAST or not losses[0] > 0:
            return None
        share, peak = float(losses[-1] / losses[0]), float(np.max(ratios.values))
        change = self.sharpness.trend()
        if share <= FITTED and peak > 0 and ratios.last <= 0.5 * peak and change is not None and change.down:
            last, loss = self._cite(ratios), self._cite(self.all_losses)
            self._say(
                f"The loss has fallen to {loss}, {share:.2g} times its first value, and the ratio from {peak:.3g} to"
                f" {last} with it",
                loss,
                last,
            )
            return "saturated", FITTED_ADVICE
        return None

    def _no_ratio(self) -> tuple[Regime, str] | None:
        if self.run.other_function:
            loss = self._cite(self.all_losses) if len(self.all_losses) else None
            where = "" if loss is None else f" (loss {loss} at step {loss.step})"
            self._say(f"Another function is measured than training descends{where}", *([loss] if loss else []))
            return "not known", "mode='auto', so that what is measured is what is trained"
        others = max(len(self._headroom()[0]), len(self.run.series("batch_ratio").since(self.since)))
        if len(self.all_ratios) >= LEAST or (not len(self.all_ratios) and others >= LEAST):
            return None
        if not len(self.all_ratios):
            return self._nothing_known()
        last = self._cite(self.all_ratios)
        self._say(f"The ratio was read fewer than {LEAST} times, and is {last}", last)
        return "not known", "a smaller every=, for at least three readings"

    def _nothing_known(self) -> tuple[Regime, str]:
        loss = self._cite(self.all_losses) if len(self.all_losses) else None
        where = "" if loss is None else f"; the loss is {loss}"
        self._say(f"No ratio was measured{where}", *([loss] if loss else []))
        return "not known", ""

    def _by_headroom_or_ratio(self) -> tuple[Regime, str]:
        found = self._by_headroom() or self._by_batch_sharpness() or self._by_batch_ratio()
        return found if found is not None else self._by_ratio()

    def _by_headroom(self) -> tuple[Regime, str] | None:
        """By the steps that were taken: on their own batch in mini-batch training, else on all data."""
        series, in_batches = self._headroom()
        if len(series) < LEAST or (self._mini_batches and not in_batches):
            return None
        value, near = series.median, NEAR_IN_BATCHES if in_batches else NEAR
        cited = self._cite(series, value)
        whose = " on the batch of the step" if in_batches else ""
        says = f"The loss{whose} could be followed for {cited} times the step before it rises (headroom)"
        ratio = self._ratio_now()
        high = ratio is not None and ratio.value > 1 + NEAR
        if high and value > 1 + near:
            assert ratio is not None
            self._say(f"{says}, so that the steps do not overshoot, although the ratio is {ratio}", cited, ratio)
            return self._below_the_edge()
        if not in_batches and not high and ratio is not None and ratio.value < 1 - NEAR:
            return None  # on a plateau of the loss it is 1 by necessity: the ratio says more
        if value < 1 - near:
            self._say(f"{says}: the steps overshoot", cited)
            return self._beyond()
        if high and not self.run.adaptive:
            return None  # an oscillation of constant size, which the ratio tells from one at the edge
        if value <= 1 + near:
            self._say(f"{says}", cited)
            return "at the edge", ""
        if in_batches and self.run.momentum and 1 / value > ADDED_UP:
            return self._added_up(says, cited)
        self._say(f"{says}, more than one step", cited)
        return self._below_the_edge()

    def _by_batch_sharpness(self) -> tuple[Regime, str] | None:
        """By where SGD settles in mini-batches, with momentum between two plateaus."""
        series = self.run.series("batch_sharpness", "ratio").since(self.since)
        large = self.run.series("batch_sharpness", "ratio/large").since(self.since)
        if not self._mini_batches or len(series) < LEAST:
            return None
        value, cited = series.median, self._cite(series, series.median)
        upper = large.median if len(large) else value
        says = f"The batch sharpness is {cited} times the value at which SGD settles on small mini-batches"
        if value < 1 - NEAR_IN_BATCHES:
            self._say(says, cited)
            return self._below_the_edge()
        if upper <= 1 + NEAR_IN_BATCHES:
            self._say(says, cited)
            return "at the edge", ""
        self._say(says, cited)
        return self._beyond()

    def _by_batch_ratio(self) -> tuple[Regime, str] | None:
        """By the optimizer's next steps on mini-batches, whatever the optimizer."""
        series = self.run.series("batch_ratio").since(self.since)
        if not self._mini_batches or len(series) < LEAST:
            return None
        value, cited = series.median, self._cite(series, series.median)
        says = f"On its own mini-batch a step uses {cited} of its headroom (batch_ratio; 1 is the edge)"
        if value <= 0:
            says = f"On their own mini-batches steps meet no positive curvature (batch_ratio is {cited}; 1 is the edge)"
        if value > 1 + NEAR_IN_BATCHES:
            self._say(f"{says}: steps raise the loss that they are taken on", cited)
            return self._beyond()
        if value >= 1 - NEAR_IN_BATCHES:
            self._say(says, cited)
            return "at the edge", ""
        if self.run.momentum and value > ADDED_UP:
            return self._added_up(says, cited)
        self._say(says, cited)
        return self._below_the_edge()

    def _added_up(self, says: str, cited: CitedFigure) -> tuple[Regime, str]:
        """No step overshoots its own mini-batch, but momentum adds up those of several."""
        self._say(
            f"{says}: no step overshoots, but momentum adds steps up, so that mini-batches may already hold training at"
            " their edge",
            cited,
        )
        self._say_loss()
        self.adds_up = True
        return "not known", "nothing while the loss falls; where it has stalled, a smaller learning rate or its decay"

    def _by_ratio(self) -> tuple[Regime, str]:
        cited = self._ratio_now()
        if cited is None:
            return self._nothing_known()
        value = cited.value
        if value > 1 + NEAR and self.run.threshold_is_bound(self.since):
            self._say(
                f"The ratio of {cited} is an upper bound, since gradients are clipped by an unknown factor", cited
            )
            return "not known", ""
        if value > 1 + NEAR:
            return self._above(cited)
        if value >= 1 - NEAR:
            self._say(f"The ratio of effective sharpness and threshold is {cited}", cited)
            return "at the edge", ""
        if self._mini_batches:
            self._say(
                f"The ratio of {cited} is that of all data, and mini-batches can be at their edge far below 1",
                cited,
            )
            self._say_loss()
            return (
                "not known",
                "es.watch(..., measures=['loss', 'ratio', 'batch_ratio']), or the measure 'headroom' with"
                " monitor.step(batch=batch), which are of the mini-batches",
            )
        self._say(f"The ratio of effective sharpness and threshold is {cited}, below 1", cited)
        return self._below_the_edge()

    def _above(self, cited: CitedFigure) -> tuple[Regime, str]:
        trend = self.loss.trend()
        if self.run.adaptive and trend is not None and trend.down and trend.rises <= 0.2:
            last = self._cite(self.loss)
            self._say(
                f"The ratio is {cited}, above 1, and yet the loss falls to {last}: the threshold is that of the present"
                " preconditioner, which an adaptive optimizer changes as it goes",
                cited,
                last,
            )
            return "not known", ""
        self._say(f"The ratio of effective sharpness and threshold is {cited}, above 1", cited)
        return self._beyond()

    def _beyond(self) -> tuple[Regime, str]:
        trend = self.loss.trend()
        if trend is None:
            return "beyond it and oscillating", ""
        self._say_loss()
        diverges = trend.up and trend.factor >= GROWTH and self.all_losses.last >= self.all_losses.values[0]
        return ("beyond it and diverging" if diverges else "beyond it and oscillating"), ""

    def _below_the_edge(self) -> tuple[Regime, str]:
        loss, sharpness = self.loss.trend(), self.sharpness.trend()
        if loss is not None and loss.up:
            last = self._cite(self.loss)
            self._say(self._loss_words(loss, last) + ", which this curvature does not explain", last)
            return "not known", "the data, the weight decay, noise added to the gradient, or a smaller every="
        rest = rest_of(self.run, self.since)
        if rest is not None:
            self.reasons.append(rest)
            return "flow-aligned", f"nothing, if the model cannot fit better than this; else {RESTART}"
        if sharpness is None:
            if len(self.loss):
                last = self._cite(self.loss)
                self._say(f"The loss is {last}, and the sharpness has too few readings for a trend", last)
            return "flow-aligned", ""
        last = self._cite(self.sharpness)
        name = self.sharpness.measure.replace("_", " ")
        self._say(f"The {name} {sharpness.words(last)}", last)
        return ("sharpening" if sharpness.up else "flow-aligned"), ""

    # ------------------------------------------------------------------------------------------- what limits a verdict

    def _limits(self) -> None:
        """Sentences on what a reader of the verdict should know."""
        ratio = self._ratio_now()
        if ratio is None:
            return
        if self.rate_is_zero:
            self._say(f"The learning rate is 0 at the end: the ratio of {ratio} is that of step {ratio.step}", ratio)
        if len(self.threshold) >= 2:
            first, last = float(self.threshold.values[0]), self._cite(self.threshold)
            if not 0.8 <= last.value / first <= 1.25:
                known_clip = self.run.clipped(self.since) and not self.run.threshold_is_bound(self.since)
                why = f"{'clipping, ' * known_clip}the learning rate or the preconditioner"
                self._say(
                    f"The threshold has changed from {first:.3g} to {last} with {why}, so the ratio of {ratio} is"
                    f" that of step {ratio.step} alone",
                    last,
                    ratio,
                )
        if self.run.clipped(self.since) and not self.run.threshold_is_bound(self.since) and len(self.threshold):
            last = self._cite(self.threshold)
            self._say(f"Gradients are clipped, which the threshold of {last} takes into account", last)
        if self.run.batch_statistics:
            self._say(
                f"The ratio of {ratio} is that of batches of the measured samples: with batch normalisation it depends"
                " on their size, and it falls as the norm of the weights grows",
                ratio,
            )

    # ------------------------------------------------------------------------------------------------------- figures

    def _say(self, sentence: str, *figures: CitedFigure) -> None:
        self.reasons.append(Reason(sentence, figures))

    def _cite(self, series: Series, value: float | None = None) -> CitedFigure:
        return CitedFigure(series.measure, series.part, int(series.steps[-1]), series.last if value is None else value)

    def _ratio_now(self) -> CitedFigure | None:
        """The median of the recent ratios; the last one where the threshold has changed on the way."""
        if not len(self.ratio):
            return None
        known = self.threshold.values
        changed = len(known) >= 2 and not 0.8 <= known[-1] / known[0] <= 1.25
        trend = self.ratio.trend()
        moving = changed or (trend is not None and (trend.up or trend.down))
        few = len(self.ratio) < LEAST
        return self._cite(self.ratio, None if moving or few else self.ratio.median)

    @property
    def _mini_batches(self) -> bool:
        return self.run.mini_batches(self.since, without_ratio=not len(self.ratio))

    def _headroom(self) -> tuple[Series, bool]:
        """The recent headroom, on the batch of each step where that was measured, and whether it was."""
        on_batch = self.run.series("headroom", "batch").since(self.since)
        return (on_batch, True) if len(on_batch) >= LEAST else (self.run.series("headroom").since(self.since), False)

    def _sharpness(self) -> Series:
        """The sharpness in the optimizer's own metric, which does not depend on the learning rate, or the plain one."""
        for measure, part in (("effective_sharpness", ""), ("generalized_sharpness", "lower")):
            found = self.run.series(measure, part)
            if len(found) >= LEAST:
                return found
        return self.run.series("sharpness", "1")

    def _say_loss(self) -> None:
        trend = self.loss.trend()
        if trend is not None:
            last = self._cite(self.loss)
            self._say(self._loss_words(trend, last), last)

    def _loss_words(self, trend: Trend, last: CitedFigure) -> str:
        share = f", and rises in {trend.rises:.0%} of the readings" if not trend.up else ""
        return f"The loss {trend.words(last)}{share}"
