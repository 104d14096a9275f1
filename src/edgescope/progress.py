"""How work under way says how far it is: one signature, from training runs to the command line."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called as ``progress(share, text, seconds_left)``: the share done (0 to 1), a few words, and an estimate.

    Work that has no estimate of the seconds left does not pass any.
    """

    def __call__(self, share: float, text: str = "", seconds_left: float | None = None, /) -> None: ...


def no_progress(share: float, text: str = "", seconds_left: float | None = None, /) -> None:
    """Tell nobody."""


def part_of(progress: Progress, start: float, end: float, prefix: str = "") -> Progress:
    """The progress of a part of the work, which takes the share of the whole from ``start`` to ``end``."""

    def tell(share: float, text: str = "", seconds_left: float | None = None, /) -> None:
        progress(start + (end - start) * share, f"{prefix}{text}")

    return tell
