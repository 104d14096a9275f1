"""What a verdict on a run rests on: the series of its record, their trends, and what was noticed about the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Int

from edgescope.extras import Optional
from edgescope.measures.base import CLIPPED, HIDDEN_FACTOR, IN_MINI_BATCHES

if TYPE_CHECKING:
    import polars as pl

    from edgescope.store import Record
else:
    pl = Optional("polars")

MEASURES: Final = (
    "loss",
    "sharpness",
    "effective_sharpness",
    "generalized_sharpness",
    "threshold",
    "ratio",
    "headroom",
    "batch_sharpness",
    "batch_ratio",
    "gradient_norm",
    "norms",
)
"""What a verdict looks at."""

PLAIN: Final = {"SGD", "ASGD", "LabelNoiseSGD", "Langevin", "SteepestDescent"}
"""Optimizers without a preconditioner that changes as they train."""

CHANGE: Final = 1.05
"""A factor by which a series has changed, in one direction, if it is to have a trend."""

ORDERED: Final = 0.3
"""The least |Kendall's tau| of a trend."""

MOST_IN_TREND: Final = 500
"""Readings from which a trend is computed, evenly spaced: the pairs of more would take seconds and gigabytes."""

Steps = Int[np.ndarray, " n"]
Values = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Trend:
    """How a series has changed over some steps, by the median of the slopes of all pairs of its readings (Theil-Sen).

    ``factor`` is the value at the end over that at the start, ``tau`` Kendall's, and ``rises`` the share of readings
    above the one before. Of values that are not all ``positive``, ``factor`` is 1 + change / largest size.
    """

    factor: float
    tau: float
    rises: float
    positive: bool = True

    @property
    def up(self) -> bool:
        return self.factor >= CHANGE and self.tau >= ORDERED

    @property
    def down(self) -> bool:
        return self.factor <= 1 / CHANGE and self.tau <= -ORDERED

    def words(self, last: object) -> str:
        """The trend in words, ``last`` being the value at its end."""
        if not (self.up or self.down):
            return f"stays level, at {last}"
        verb = "rises" if self.up else "falls"
        factor = self.factor if self.up else 1 / self.factor if self.positive else 0.0
        return f"{verb} by a factor of {factor:.3g}, to {last}" if self.positive else f"{verb} to {last}"


@dataclass(frozen=True)
class Series:
    """The values of one part of a measure that are numbers, infinite ones among them, by step."""

    measure: str
    part: str
    steps: Steps
    values: Values

    def __len__(self) -> int:
        return len(self.steps)

    def since(self, step: int) -> Series:
        """Those from this step on."""
        kept = self.steps >= step
        return Series(self.measure, self.part, self.steps[kept], self.values[kept])

    def before(self, step: int) -> Series:
        """Those of steps before this one."""
        kept = self.steps < step
        return Series(self.measure, self.part, self.steps[kept], self.values[kept])

    def finite(self) -> Series:
        """Those that are finite."""
        kept = np.isfinite(self.values)
        return Series(self.measure, self.part, self.steps[kept], self.values[kept])

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def last(self) -> float:
        return float(self.values[-1])

    def trend(self) -> Trend | None:
        """The trend of the finite values; None of fewer than three."""
        finite = np.isfinite(self.values)
        steps, values = self.steps[finite].astype(np.float64), self.values[finite]
        if len(steps) < 3:
            return None
        if len(steps) > MOST_IN_TREND:
            kept = np.linspace(0, len(steps) - 1, MOST_IN_TREND).round().astype(np.int64)
            steps, values = steps[kept], values[kept]
        size = float(np.abs(values).max())
        positive = bool((values > 0).all())
        scaled = np.log(values) if positive else values / (size or 1.0)
        before, after = np.triu_indices(len(steps), 1)
        differences = scaled[after] - scaled[before]
        change = float(np.median(differences / (steps[after] - steps[before])) * (steps[-1] - steps[0]))
        rises = float(np.mean(np.diff(values) > 1e-6 * size))
        tau = float(np.sign(np.where(np.abs(differences) > 1e-9, differences, 0.0)).mean())
        return Trend(math.exp(min(change, 700.0)) if positive else 1 + change, tau, rises, positive)


@dataclass(frozen=True)
class RunFacts:
    """A run as its record has it: ``table`` as :meth:`Record.table`, ``events``, ``info`` and ``status``."""

    table: pl.DataFrame
    events: pl.DataFrame
    info: Mapping[str, Any]
    status: str

    @classmethod
    def of(cls, record: Record) -> RunFacts:
        """Those of a record, of the measures that a verdict looks at."""
        return cls(record.table(*MEASURES), record.events(), record.info, record.status)

    def series(self, measure: str, part: str = "") -> Series:
        """One part of a measure; empty where there is none."""
        found = self.table.filter((pl.col("measure") == measure) & (pl.col("part") == part)).drop_nulls("value")
        found = found.filter(~pl.col("value").is_nan()).sort("step")
        return Series(measure, part, found["step"].to_numpy(), found["value"].to_numpy())

    @property
    def last_step(self) -> int:
        """The last step with a reading that a verdict looks at."""
        steps = self.table.filter(pl.col("measure").is_in(MEASURES))["step"]
        return int(steps.max()) if len(steps) else 0  # type: ignore[arg-type]

    @property
    def diverged_at(self) -> int | None:
        """The step at which parameters or loss were found not to be finite."""
        found = self.events.filter(pl.col("kind") == "diverged")["step"]
        return None if found.is_empty() else int(found[-1])

    @property
    def other_function(self) -> str:
        """That another function is measured than training descends, in words; empty where that was not noticed."""
        found = self.events.filter(pl.col("kind") == "mode")
        return "" if found.is_empty() else str(found["text"][-1])

    @property
    def dead_since(self) -> int | None:
        """The step at which many parameters were found to have no gradient; None where that was not noticed."""
        found = self.events.filter(pl.col("kind") == "dead-units")["step"]
        return None if found.is_empty() else int(found[0])

    @property
    def batch_statistics(self) -> bool:
        measured = self.info.get("measured")
        return isinstance(measured, dict) and measured.get("mode") == "batch-statistics"

    @property
    def groups(self) -> list[Mapping[str, Any]]:
        """The groups of all optimizers, as the record describes them."""
        optimizers = self.info.get("optimizers")
        found = (
            [one.get("groups") for one in optimizers if isinstance(one, dict)] if isinstance(optimizers, list) else []
        )
        return [group for groups in found if isinstance(groups, list) for group in groups if isinstance(group, dict)]

    @property
    def weight_decay(self) -> float | None:
        """The largest weight decay of a group; None where the record says nothing."""
        known = [group.get("weight_decay", 0.0) for group in self.groups]
        numbers = [float(value) for value in known if isinstance(value, int | float)]
        return max(numbers) if numbers else None

    @property
    def adaptive(self) -> bool:
        """Whether an optimizer has a preconditioner that changes as it trains."""
        found = self.info.get("optimizers")
        names = (
            [str(one.get("base", one.get("name"))) for one in found if isinstance(one, dict)]
            if isinstance(found, list)
            else []
        )
        return any(name not in PLAIN for name in names)

    @property
    def momentum(self) -> bool:
        """Whether steps of an optimizer add up gradients of several mini-batches, as the record describes it."""
        betas = [group.get("betas") for group in self.groups]
        first = [float(beta[0]) for beta in betas if isinstance(beta, list) and beta]
        return any(first) or any(bool(group.get("momentum")) for group in self.groups)

    @property
    def learning_rate(self) -> float | None:
        """That of all parameters where the run began; None where they have several, or the record says nothing."""
        rates = {group.get("lr") for group in self.groups}
        (rate,) = rates if len(rates) == 1 else (None,)
        return float(rate) if isinstance(rate, int | float) else None

    def mini_batches(self, since: int, without_ratio: bool = False) -> bool:
        """Whether training was seen to use other samples than those that are measured, since this step.

        ``without_ratio``: at any step, since only the notes of ratios say so at each.
        """
        if without_ratio:
            return bool((self.events["kind"] == "gradients").any())
        return self._noted(IN_MINI_BATCHES, since)

    def clipped(self, since: int) -> bool:
        """Whether gradients were seen to be clipped."""
        return self._noted(CLIPPED, since)

    def threshold_is_bound(self, since: int) -> bool:
        """Whether clipping has an unknown factor, so that the threshold is a lower bound."""
        return self._noted(HIDDEN_FACTOR, since)

    def _noted(self, words: str, since: int) -> bool:
        rows = (pl.col("measure").is_in(["ratio", "threshold"])) & (pl.col("step") >= since)
        return bool(self.table.filter(rows)["note"].str.contains(words, literal=True).any())
