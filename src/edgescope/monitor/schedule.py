"""When to measure: every so many steps, where a function is true, for a share of the time, or where training ends."""

from __future__ import annotations

import inspect
import math
import numbers
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edgescope.errors import InputError


class Schedule(ABC):
    """Decides at which steps measures are taken; step 0 is one, except with a budget. Asked once a step, in order."""

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


ALLOWANCE: Final = 0.2
"""How far a measurement may take a budget beyond its share, as a fraction of what has been earned so far."""


@dataclass
class Budget(Schedule):
    """As often as a ``share`` of the time allows, the first measurement included.

    The time of the run, measurements and all, earns ``share`` of itself. A measurement is due as soon as the earlier
    ones are paid for, and this one will not take the whole beyond 1.2 times the ``share`` (:data:`ALLOWANCE`). So the
    first one comes early, the time taken stays within 1.0 and 1.2 times the share, up to the error of what the first
    was expected to take, and a longer run comes down to the share itself. ``expect`` returns the seconds that the first
    measurement, and one along the run, are expected to take; afterwards the last one tells, if that was shorter.

    Nothing more is saved up than one measurement takes. Where several processes measure together, ``agree`` makes one
    decision of theirs. At step 0 nothing has been earned, so that none is taken there. Times are measured, so the steps
    at which it measures, and with them the record, are not reproducible bit for bit.
    """

    share: float
    clock: Callable[[], float] = time.perf_counter
    expect: Callable[[], tuple[float, float]] | None = None
    agree: Callable[[bool], bool] | None = None
    _looked: float = field(default=0.0, init=False, repr=False)
    _earned: float = field(default=0.0, init=False, repr=False)
    _spent: float = field(default=0.0, init=False, repr=False)
    _next: float | None = field(default=None, init=False, repr=False)
    _along: float = field(default=math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(
                f"a measurement budget of {self.share}", expected="a share of training time, at most 1, such as 0.1"
            )
        self._looked = self.clock()

    def due(self, step: int) -> bool:
        trained, self._looked = self.clock() - self._looked, self.clock()
        if self._next is None:
            self._next, self._along = (0.0, math.inf) if self.expect is None else self.expect()
            self.spent(self.clock() - self._looked)
        # A measurement earns a share of its own time.
        following = (1 - self.share) * self._next
        lacking = max(0.0, following - (self._earned - self._spent))
        self._earned += min(self.share * trained, lacking)
        balance = self._earned - self._spent
        due = balance >= 0 and balance + ALLOWANCE * self._earned >= following
        return due if self.agree is None else self.agree(due)

    def chooses(self, step: int) -> bool:
        return self.due(step)

    def spent(self, seconds: float) -> None:
        """Told of time that was spent on measuring."""
        self._earned += self.share * seconds
        self._spent += seconds
        self._looked += seconds

    def measured(self, seconds: float) -> None:
        self.spent(seconds)
        self._next = min(seconds, self._along)

    def training_before(self, seconds: float) -> float:
        """After how much training a first measurement that takes so long is due."""
        earned = ((1 - self.share) * seconds + self._spent) / (1 + ALLOWANCE)
        return max(earned, self._spent) / self.share - self._spent


def schedule_from(every: int | Callable[[int], bool] | None, budget: float | None) -> Schedule:
    """The schedule that ``every`` or ``budget`` describes: one of the two, every 10 steps where both are None."""
    if budget is not None:
        if every is not None:
            raise InputError("both every= and budget= were given", expected="one of them")
        return Budget(budget)
    if callable(every):
        try:
            inspect.signature(every).bind(0)
        except TypeError as error:
            raise InputError(f"every= is a function that takes no step ({error})", expected="one of the step") from None
        except ValueError:
            pass  # what is written in C need not have a signature
        return Where(every)
    if isinstance(every, numbers.Integral) and not isinstance(every, bool):
        every = int(every)  # also that of numpy
    return Every(10 if every is None else every)


@dataclass(frozen=True)
class Schedules:
    """When each of the measures ``names`` is due: by its ``own`` schedule where it has one, else by the ``usual``."""

    names: tuple[str, ...]
    usual: Schedule
    own: Mapping[str, Schedule]

    def due(self, step: int) -> set[str]:
        """The measures to take at this step. Each schedule is asked once a step, as a budget needs it."""
        usual = self.usual.due(step)
        return {name for name in self.names if (self.own[name].due(step) if name in self.own else usual)}

    def at_end(self) -> set[str]:
        """The measures to take where training ends."""
        return {name for name, schedule in self.own.items() if isinstance(schedule, AtEnd)}

    def measured(self, due: set[str], seconds: float) -> None:
        """Told after each measurement how long it took: the usual schedule, where a measure of its own was due."""
        if any(name not in self.own for name in due):
            self.usual.measured(seconds)
