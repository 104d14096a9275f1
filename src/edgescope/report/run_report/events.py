"""What happened on the way of a run, as marks in its figures."""

from __future__ import annotations

import string
from typing import Final

from edgescope.figures import Mark
from edgescope.figures.marks import MOST_LETTERS
from edgescope.store import Record

ALARMS: Final = ("diverged", "failed", "not-finite")

WORDS: Final = {
    "mode": "another mode of the model",
    "weights": "a notice about the weights of batches",
    "optimizer": "a notice about the optimizer",
    "model": "changed parameters",
    "update": "steps other than the optimizer's",
    "gradients": "other gradients",
    "measure": "a failed measure",
    "not-finite": "a value that is not finite",
}
"""What a caption calls an event whose kind does not say it."""


def marks_of(record: Record) -> tuple[list[Mark], str]:
    """A mark for each step and kind of event after step 0, and a sentence that says what they are.

    Events of step 0 tell of the whole run, and stand in the notes alone.
    """
    found = list(dict.fromkeys((step, kind) for step, kind, _, _ in record.events().iter_rows() if step > 0))
    if not found:
        return [], ""
    letters = string.ascii_lowercase if len(found) <= MOST_LETTERS else ""
    marks = [Mark(letters[i] if letters else "", step, kind in ALARMS) for i, (step, kind) in enumerate(found)]
    if not letters:
        return marks, f" Dotted lines: {len(found)} events, which are listed under Notes."
    words = (WORDS.get(kind, kind.replace("-", " ")) for _, kind in found)
    told = "; ".join(f"({mark.letter}) {text} at step {mark.step}" for mark, text in zip(marks, words, strict=True))
    return marks, f" Marked: {told} (see Notes)."
