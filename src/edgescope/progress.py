"""How work under way says how far it is: one signature, from training runs to the command line."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

ENOUGH: Final = 0.02
"""The share of the work that has to be done before its speed says how long the rest takes."""

ENOUGH_AFTER: Final = (30.0, 0.002)
"""Seconds after which less is enough, and what: the start, which is slow, is then a small part of the time."""


@runtime_checkable
class Progress(Protocol):
    """Called as ``progress(share, text, seconds_left)``: the share done (0 to 1), a few words, and an estimate.

    Work that has no estimate of the seconds left does not pass any.
    """

    def __call__(self, share: float, text: str = "", seconds_left: float | None = None, /) -> None: ...


def no_progress(share: float, text: str = "", seconds_left: float | None = None, /) -> None:
    """Tell nobody."""


def time_left(done: float, before: float, elapsed: float) -> float | None:
    """The seconds that the rest takes at the speed so far; None while that rests on nothing.

    ``before`` is the share that was done at the start, ``done`` that of now, after ``elapsed`` seconds.
    """
    if done >= 1:
        return 0.0
    share = (done - before) / (1 - before)  # of what there was to do
    long, less = ENOUGH_AFTER
    if share < (less if elapsed >= long else ENOUGH):
        return None
    return (1 - done) * elapsed / (done - before)


def part_of(progress: Progress, start: float, end: float, prefix: str = "") -> Progress:
    """The progress of a part of the work, which takes the share of the whole from ``start`` to ``end``."""

    def tell(share: float, text: str = "", seconds_left: float | None = None, /) -> None:
        progress(start + (end - start) * share, f"{prefix}{text}")

    return tell
