"""What the learning rate finder has found, as numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgescope.cost import Cost
from edgescope.tuning.critical_percentiles import CriticalRates
from edgescope.tuning.rate_search import RateTrial

if TYPE_CHECKING:
    from edgescope.figures.figure import Figure


@dataclass(frozen=True)
class LearningRateSuggestion:
    """The learning rate to train at, and what bounds it. All numbers are finite, whatever happened.

    ``suggested`` had the lowest loss of the short trials; ``low`` to ``high`` are the learning rates, tried on all
    seeds, whose loss fell at least 90% as far. ``at_start`` and ``after_warm_up`` are the critical rates of single
    batches, in single steps; :attr:`stable_up_to` and :attr:`unstable_from` bracket the rate at which the short
    training runs turn unstable. ``warm_up_needed``: at ``suggested`` training without the ``warm_up`` steps of linear
    warm-up diverged, or its loss fell less than 90% as far. ``limiting_block`` is the layer with the largest ``share``
    of the curvature that limits the steps; empty, with a share of 0, where it is not known. ``trained`` is False where
    no trial lowered the loss: ``suggested`` is then the lowest rate tried, and no advice. ``cost`` counts losses and
    gradients of single batches. ``notes`` say what was cut short or could not be measured.
    """

    suggested: float
    low: float
    high: float
    at_start: CriticalRates
    after_warm_up: CriticalRates
    warm_up_needed: bool
    warm_up: int
    limiting_block: str
    share: float
    trials: tuple[RateTrial, ...]
    trained: bool
    optimizer: str
    schedule: str
    seeds: int
    cost: Cost
    seconds: float
    mode: str | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.summary()

    @property
    def unstable_from(self) -> float:
        """The lowest learning rate above the suggestion at which a short training run did not lower its loss.

        Where all of them did, the highest that was tried, or the median of the critical rates if that is higher.
        """
        failed = [t.rate for t in self.trials if t.warm_up and not t.lowered and t.rate >= self.suggested]
        return min(failed, default=max(self.after_warm_up.median, *(t.rate for t in self.trials)))

    @property
    def stable_up_to(self) -> float:
        """The highest learning rate below :attr:`unstable_from` that was tried; the lowest tried where none trains."""
        below = [t.rate for t in self.trials if t.warm_up and t.rate < self.unstable_from]
        return max(below, default=self.suggested)

    def summary(self) -> str:
        """In plain words, a few lines."""
        lines = []
        if self.trained:
            lines.append(
                f"Suggested learning rate for {self.optimizer}: {self.suggested:.2g} (nearly as good: {self.low:.2g} to"
                f" {self.high:.2g})."
            )
        else:
            lines.append(
                f"No learning rate that was tried lowers the loss; the lowest was {self.suggested:.2g}. Check the loss"
                " and the data."
            )
        if self.trained:
            failed = any(not t.lowered and t.warm_up for t in self.trials)
            above = f" and no longer at {self.unstable_from:.2g}" if failed else ""
            lines.append(f"Training is stable at {self.stable_up_to:.2g}{above}, in short runs.")
        lines.append(
            f"Single steps turn unstable at {self.at_start} at the start and at {self.after_warm_up} after"
            f" {self.warm_up} steps of warm-up (median, 10th to 90th percentile of {self.after_warm_up.batches}"
            " batches)."
        )
        if not self.trained:
            pass
        elif self.warm_up_needed:
            lines.append(f"Warm-up is needed: without it training at {self.suggested:.2g} is worse or diverges.")
        else:
            lines.append(f"Warm-up is not needed at {self.suggested:.2g}.")
        if self.limiting_block:
            lines.append(
                f"The layer '{self.limiting_block}' limits the step: it has {self.share:.0%} of the curvature along it."
            )
        diverged = sum(trial.diverged for trial in self.trials)
        lines.append(
            f"{len(self.trials)} short training runs, {diverged} of them diverged; {self.cost.gradients:,} gradients of"
            f" single batches in {self.seconds:.0f} s."
        )
        return "\n".join((*lines, *(f"Note: {note}." for note in self.notes)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers, texts, lists; a loss that is infinite is the text "Infinity"."""
        plain: dict[str, Any] = {}
        for name in ("suggested", "low", "high", "warm_up_needed", "warm_up", "limiting_block", "share", "trained"):
            plain[name] = getattr(self, name)
        plain |= {"stable_up_to": self.stable_up_to, "unstable_from": self.unstable_from}
        for name in ("at_start", "after_warm_up"):
            plain[name] = dict(vars(getattr(self, name)))
        plain["trials"] = [
            vars(trial) | {"loss": "Infinity" if trial.diverged else trial.loss, "diverged": trial.diverged}
            for trial in self.trials
        ]
        rest = {"optimizer": self.optimizer, "schedule": self.schedule, "seeds": self.seeds, "seconds": self.seconds}
        cost = {"losses": self.cost.losses, "gradients": self.cost.gradients}
        return plain | rest | {"cost": cost, "mode": self.mode, "notes": list(self.notes)}

    def figure(self) -> Figure:
        """The trials and the critical rates as a picture, which ``save(folder)`` writes. Needs edgescope[figures]."""
        from edgescope.tuning.picture import picture

        bars = {"at the start": self.at_start, f"after {self.warm_up} steps": self.after_warm_up}
        return picture(self.optimizer, self.suggested, self.trials, bars)
