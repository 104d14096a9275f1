"""Events where the verdict on a run changes: it reaches the edge of stability, or diverges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from edgescope.errors import InputError, one_of
from edgescope.extras import require
from edgescope.measures.arguments import kind_of
from edgescope.monitor.notifier import Notifier
from edgescope.monitor.reasons import Regime, Verdict
from edgescope.monitor.run_facts import RunFacts
from edgescope.monitor.verdict import judge
from edgescope.store import Record

RegimeKind = Literal["edge", "diverging"]
REGIME_KINDS: Final = get_args(RegimeKind)

AT_OR_BEYOND: Final[tuple[Regime, ...]] = ("at the edge", "beyond it and oscillating", "beyond it and diverging")


@dataclass(frozen=True)
class RegimeEvent:
    """The first reading at which a run is at the edge of stability or beyond it ("edge"), or diverges ("diverging").

    ``verdict`` is that at this reading, with its reasons and the figures that they rest on.
    """

    kind: RegimeKind
    step: int
    verdict: Verdict


RegimeCallback = Callable[[RegimeEvent], object]
"""A function that is called with each event of a kind."""


class RegimeWatch:
    """Judges a run at each of its readings, and gives the events of :class:`RegimeEvent` to callbacks and record.

    There is one event where the verdict enters a regime, and another one only after a verdict of a stable regime. A
    loss or parameters that are not finite are an event "diverging", whatever the verdict says of the reason.
    """

    def __init__(self, notifier: Notifier, record: Record) -> None:
        require("tables", "monitor.on('edge') and monitor.on('diverging') need", "polars")
        self._notifier, self._record = notifier, record
        self._callbacks: dict[str, list[RegimeCallback]] = {kind: [] for kind in REGIME_KINDS}
        self._inside: set[str] = set()  # the kinds whose event was given, since the last stable verdict

    def on(self, kind: str, callback: RegimeCallback) -> None:
        """Call ``callback`` with each event of this kind from now on."""
        one_of(kind, REGIME_KINDS, "kind of event")
        if not callable(callback):
            raise InputError(f"a callback that is {kind_of(callback)}", expected="a function of a RegimeEvent")
        self._callbacks[kind].append(callback)

    def look(self, step: int, diverged: bool) -> None:
        """Judge the run at a reading that the record has. Cost: that of reading its figures from the record."""
        with self._notifier.guarded("the run cannot be judged"):
            verdict = judge(RunFacts.of(self._record))
            now: set[str] = {"edge"} if verdict.regime in AT_OR_BEYOND else set()
            if diverged or verdict.regime == "beyond it and diverging":
                now.add("diverging")
            entered = [kind for kind in REGIME_KINDS if kind in now - self._inside]
            if verdict.regime != "not known" or now:  # a verdict that is not known ends nothing
                self._inside = now
            for kind in entered:
                self._tell(RegimeEvent(kind, step, verdict))

    def _tell(self, event: RegimeEvent) -> None:
        with self._notifier.guarded("an event cannot be recorded"):
            self._record.note(event.step, event.kind, str(event.verdict))
        for callback in self._callbacks[event.kind]:
            with self._notifier.guarded(f"the function of monitor.on('{event.kind}') raised an error"):
                callback(event)

    def state(self) -> list[str]:
        """What :meth:`load_state` needs."""
        return sorted(self._inside)

    def load_state(self, state: list[str]) -> None:
        """Continue from a state that :meth:`state` gave."""
        self._inside = set(state)


class EarlyStopping:
    """A function for ``monitor.on(kind, ...)`` that remembers that training should stop.

    ``should_stop`` is True from the event on, and ``event`` is what was given.
    """

    def __init__(self) -> None:
        self.event: Any = None

    @property
    def should_stop(self) -> bool:
        return self.event is not None

    def __call__(self, event: Any) -> None:
        self.event = self.event or event
