"""When to measure: every so many steps, where a function is true, for a share of the time, or where training ends."""

from __future__ import annotations

import inspect
import numbers
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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


@dataclass
class Budget(Schedule):
    """As often as a ``share`` of the training time allows, the first measurement included.

    Training earns ``share`` of its time, and a measurement is due once what it is expected to take is there: at first
    what ``expect`` says, in seconds, then what the last one took. So measurements take at most ``share`` of the
    training time, up to the error of that expectation, which later ones wait for. Nothing more is saved up than one
    measurement takes. Where several processes measure together, ``agree`` makes one decision of theirs. At step 0
    nothing has been earned, so that none is taken there. Times are measured, so the steps at which it measures, and
    with them the record, are not reproducible bit for bit.
    """

    share: float
    clock: Callable[[], float] = time.perf_counter
    expect: Callable[[], float] | None = None
    agree: Callable[[bool], bool] | None = None
    _looked: float = field(default=0.0, init=False, repr=False)
    _earned: float = field(default=0.0, init=False, repr=False)
    _next: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(
                f"a measurement budget of {self.share}", expected="a share of training time, at most 1, such as 0.1"
            )
        self._looked = self.clock()

    def due(self, step: int) -> bool:
        self._earned += self.share * (self.clock() - self._looked)
        self._looked = self.clock()
        if self._next is None:
            self._next = 0.0 if self.expect is None else self.expect()
            self.spent(self.clock() - self._looked)
        self._earned = min(self._earned, self._next)
        due = self._earned >= self._next
        return due if self.agree is None else self.agree(due)

    def chooses(self, step: int) -> bool:
        return self.due(step)

    def spent(self, seconds: float) -> None:
        """Told of time that was not training: it earns nothing, and counts as spent."""
        self._earned -= seconds
        self._looked += seconds

    def measured(self, seconds: float) -> None:
        self.spent(seconds)
        self._next = seconds


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
