"""Runs that nobody ends: their monitors are closed where Python ends, with the last step read."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import weakref
from contextlib import ExitStack
from typing import Final, Protocol, runtime_checkable


@runtime_checkable
class Endable(Protocol):
    """A monitor that can be closed, after an error or without one; a second call does nothing."""

    def end(self, error: BaseException | None = None) -> None: ...


_OPEN: Final[weakref.WeakSet[Endable]] = weakref.WeakSet()
"""Runs that are watched. They live as long as their optimizers do."""

_FORGOTTEN: Final[list[Endable]] = []
"""Runs whose optimizers nobody has any more, kept until a time at which measuring is safe."""


_RECORDS: Final[dict[int, object]] = {}
"""Records of runs that have not ended, which their readings are still to be written to: when a run is garbage,
Python's collector calls what closes its record before the run itself is told."""


def end_at_exit(run: Endable, record: object) -> None:
    """End the run where Python ends, unless it has ended by then; until it ends its record is kept."""
    _register()
    _OPEN.add(run)
    _RECORDS[id(record)] = record


def has_ended(record: object) -> None:
    """Keep the record of a run no longer."""
    _RECORDS.pop(id(record), None)


def end_later(run: Endable) -> None:
    """Keep a run whose garbage is being collected, which may happen anywhere, and end it when the next one begins."""
    _FORGOTTEN.append(run)


def end_forgotten() -> None:
    """End the runs that :func:`end_later` has kept."""
    while _FORGOTTEN:
        _FORGOTTEN.pop().end()


@functools.cache
def _register() -> None:
    atexit.register(_end_all, os.getpid())


def _end_all(process: int) -> None:
    if os.getpid() != process:
        return  # a copy of the process, which has not trained
    error = uncaught()
    with ExitStack() as stack:  # so that one that fails leaves none of the others open
        for run in [*_FORGOTTEN, *_OPEN]:
            stack.callback(run.end, error)
    _FORGOTTEN.clear()


def uncaught() -> BaseException | None:
    """The error that Python ends with; None where it ends normally, or in a session where errors end nothing."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return None
    found = getattr(sys, "last_value", None)
    return found if isinstance(found, BaseException) else None
