"""The measures of a run from their names: the order in which they are taken, and schedules of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, get_args

from edgescope.errors import InputError
from edgescope.measures import Measure
from edgescope.measures.base import Needs, as_measure
from edgescope.monitor.schedule import AtEnd, Every, Schedule

_ORDER: Final = get_args(Needs)


def in_order(measures: Iterable[str | Measure]) -> tuple[list[Measure], dict[str, Schedule]]:
    """The measures in the order in which they are taken, and the schedules of those that have one of their own.

    Ordered by what they need, and each after those that it uses.
    """
    if isinstance(measures, str):
        raise InputError(f"measures={measures!r}", expected="a list of measures", hint=f"[{measures!r}]")
    if not isinstance(measures, Iterable):
        raise InputError(f"measures of type {type(measures).__name__}", expected="a list of names or measures")
    given: dict[str, Measure] = {}
    own: dict[str, Schedule] = {}
    for asked in measures:
        text, at, every = asked.rpartition("@") if isinstance(asked, str) else ("", "", "")
        measure = as_measure(text if at else asked)
        if measure.name in given:
            raise InputError(f"measure '{measure.name}' was given twice", expected="each once")
        given[measure.name] = measure
        if at:
            if every != "end" and (not every.isdecimal() or int(every) < 1):
                raise InputError(f"measure '{asked}'", expected="a number of steps of at least 1 after @, or 'end'")
            own[measure.name] = AtEnd() if every == "end" else Every(int(every))
    placed: dict[str, Measure] = {}

    def place(measure: Measure) -> None:
        for name in measure.uses:
            if name in given:
                place(given[name])
        placed.setdefault(measure.name, measure)

    for measure in sorted(given.values(), key=lambda m: _ORDER.index(m.needs)):
        place(measure)
    return list(placed.values()), own
