"""A section of a diagnosis: a question, the answer in sentences, and the figures that these cite."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from edgescope.monitor.reasons import CitedFigure, Reason


@dataclass(frozen=True)
class Section:
    """One question about a run: ``topic`` names it, ``reasons`` are sentences with the figures that they rest on.

    ``known`` is False where the record does not answer it; the sentences then say what would.
    """

    topic: str
    question: str
    reasons: tuple[Reason, ...]
    known: bool = True

    @property
    def text(self) -> str:
        """The answer as a paragraph."""
        return " ".join(f"{reason.sentence.rstrip('.')}." for reason in self.reasons)


def unknown(topic: str, question: str, sentence: str) -> Section:
    """A section without an answer, which says what would give one."""
    return Section(topic, question, (Reason(sentence, ()),), known=False)


def as_data(sections: tuple[Section, ...]) -> list[dict[str, Any]]:
    """The sections ready for JSON, in which what is not finite is None."""
    return [
        {
            "topic": section.topic,
            "question": section.question,
            "known": section.known,
            "sentences": [reason.sentence for reason in section.reasons],
            "figures": [_figure(figure) for reason in section.reasons for figure in reason.figures],
        }
        for section in sections
    ]


def _figure(figure: CitedFigure) -> dict[str, Any]:
    fields = dataclasses.asdict(figure)
    return fields | {"value": figure.value if math.isfinite(figure.value) else None}
