"""Notices: caveats about measurements, one for each cause, issued as a warning and stored as data."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from edgescope.errors import EdgescopeWarning
from edgescope.faq import see

KINDS: Final = {
    "mode": "the model computes another function in training than while it is measured",
    "dropout": "what draws at random in training is off while measuring",
    "weights": "how the losses of batches are averaged",
    "processes": "several processes train, and this one measures its own data alone",
    "optimizer": "the optimizer is unknown, was replaced, or does not step",
    "threshold": "no stability threshold is known, or the one that is known needs care",
    "model": "parameters were replaced, added, removed, frozen, unfrozen, moved or cast, or do not change",
    "update": "the steps taken are not those of the optimizer's rule on the gradient of the objective",
    "gradients": "the gradients of training are not those of the objective, as with mini-batches",
    "measure": "a measure failed",
    "budget": "what a reading is expected to take, and when the budget allows one",
    "not-finite": "a figure is not finite",
    "saturated": "the curvature is exactly zero",
    "dead-units": "the gradient of many parameters is exactly zero",
}
"""The kinds of notices, which are also the kinds of events in a record."""

_FOLDERS: Final = (Path(__file__).parent, Path(torch.__file__).parent)
_INSIDE: Final = (*(f"{folder}{os.sep}" for folder in _FOLDERS), contextlib.__file__)


@dataclass(frozen=True)
class Notice:
    """One thing to know. ``warned`` says whether it was given as a warning, or is for information only.

    ``hint`` is what to try, empty where that is not said, and ``faq`` the anchor of docs/faq.md that explains it;
    ``text`` ends with both, ``finding`` is without them.
    """

    kind: str
    text: str
    warned: bool = True
    finding: str = ""
    hint: str = ""
    faq: str = ""


class Notices:
    """The notices that one objective or monitor has given, each cause once."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], Notice] = {}

    def __iter__(self) -> Iterator[Notice]:
        return iter(tuple(self._given.values()))

    def give(
        self, kind: str, text: str, *, faq: str, hint: str = "", cause: str = "", warn: bool = True
    ) -> Notice | None:
        """Keep a notice and warn, unless one of this ``kind`` and ``cause`` was given before (then None).

        ``faq`` is one of :data:`edgescope.faq.FAQ`, and ``hint`` what to try; the text then ends with them. ``cause``
        tells notices of one kind apart, such as the name of a measure; ``warn=False`` is for information.
        """
        if (kind, cause) in self._given:
            return None
        notice = Notice(kind, with_hint(text, hint, faq), warn, " ".join(text.split()), hint, faq)
        self._given[kind, cause] = notice
        if warn:
            warnings.warn(notice.text, EdgescopeWarning, stacklevel=_levels_to_the_user())
        return notice

    def mark(self, causes: Iterable[tuple[str, str]]) -> None:
        """Take notices of these kinds and causes as given before, by another session of the same run."""
        for kind, cause in causes:
            self._given.setdefault((kind, cause), Notice(kind, "", warned=False))

    def forget(self) -> None:
        """Take nothing as given before."""
        self._given.clear()

    def given(self) -> list[tuple[str, str]]:
        """Kind and cause of every notice given so far."""
        return list(self._given)


def with_hint(text: str, hint: str, faq: str) -> str:
    """The text in one line, what to try after it, and the anchor of the page that explains it."""
    return " ".join(f"{text}{f'; try {hint}' if hint else ''} {see(faq)}".split())


def _levels_to_the_user() -> int:
    """How many frames up, from the caller of this function, the first line outside of this package and of torch is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    return level
