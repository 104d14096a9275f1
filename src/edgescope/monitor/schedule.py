"""When to measure: every so many steps, where a function says so, for a share of the time, or where training ends."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from edgescope.errors import InputError


class Schedule(ABC):
    """Decides at which steps measures are taken; step 0 always is one. Asked once for every step, in order."""

    def due(self, step: int) -> bool:
        return step == 0 or self.chooses(step)

    @abstractmethod
    def chooses(self, step: int) -> bool:
        """Whether to measure at ``step``, which is not 0."""

    def measured(self, seconds: float) -> None:  # noqa: B027
        """Told after each measurement how long it took."""


@dataclass(frozen=True)
class Every(Schedule):
    """At every ``steps``-th step."""

    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise InputError(f"a measurement every {self.steps!r} steps", expected="a whole number of at least 1")

    def chooses(self, step: int) -> bool:
        return step % self.steps == 0


@dataclass(frozen=True)
class AtEnd(Schedule):
    """Where training ends, and at no step before."""

    def due(self, step: int) -> bool:
        return False

    def chooses(self, step: int) -> bool:
        return False


@dataclass(frozen=True)
class Where(Schedule):
    """At the steps for which ``chosen(step)`` is true."""

    chosen: Callable[[int], bool]

    def chooses(self, step: int) -> bool:
        return bool(self.chosen(step))


@dataclass
class Budget(Schedule):
    """As often as a ``share`` of the training time allows: once training since the last measurement has taken
    1 / ``share`` of what that one cost.

    So measurements take at most ``share`` of the training time, and the one under way. Times are measured, so the steps
    at which it measures, and with them the record, are not reproducible bit for bit.
    """

    share: float
    clock: Callable[[], float] = time.perf_counter
    _since: float = field(default=0.0, init=False, repr=False)
    _cost: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and self.share > 0):
            raise InputError(f"a measurement budget of {self.share}", expected="a share of training time such as 0.1")
        self._since = self.clock()

    def chooses(self, step: int) -> bool:
        return self.share * (self.clock() - self._since) >= self._cost

    def measured(self, seconds: float) -> None:
        self._since, self._cost = self.clock(), seconds


def schedule_from(every: int | Callable[[int], bool] | None, budget: float | None) -> Schedule:
    """The schedule that ``every`` or ``budget`` describes: one of the two, every 10 steps where both are None."""
    if budget is not None:
        if every is not None:
            raise InputError("both every= and budget= were given", expected="one of them")
        return Budget(budget)
    if callable(every):
        return Where(every)
    return Every(10 if every is None else every)
