"""A run as claims look at it: a series over its threshold, and the measurements from its first arrival there on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgescope.report import Verdict
from edgescope.store import Record

ENOUGH = 20
"""Measurements after the first arrival at the threshold that a time-mean needs to say something."""


@dataclass(frozen=True)
class Seen:
    """One run: what was measured over its threshold, by step."""

    name: str
    record: Record
    steps: np.ndarray
    ratio: np.ndarray

    @classmethod
    def of(cls, name: str, record: Record, measure: str = "ratio", part: str = "") -> Seen:
        steps, ratio = record.series(measure, part)
        known = np.isfinite(ratio)
        return cls(name, record, steps[known], ratio[known])

    @property
    def arrival(self) -> int | None:
        """The index of the first measurement at or above the threshold."""
        above = np.flatnonzero(self.ratio >= 1.0)
        return int(above[0]) if above.size else None

    @property
    def after(self) -> np.ndarray:
        return self.ratio[self.arrival :] if self.arrival is not None else np.array([])

    @property
    def mean(self) -> float:
        """The time-mean from the first arrival on, NaN without one."""
        return float(self.after.mean()) if self.after.size else float("nan")

    @property
    def sharpness(self) -> tuple[np.ndarray, np.ndarray]:
        return self.record.series("sharpness", "1")


def together(verdicts: Sequence[str]) -> Verdict:
    """One verdict over several runs: a single counter-example fails a claim, one that cannot tell leaves it open."""
    if "fails" in verdicts:
        return "fails"
    return "holds" if verdicts and all(v == "holds" for v in verdicts) else "inconclusive"


def by_run(verdicts: Mapping[str, Verdict]) -> tuple[Verdict, str]:
    """One verdict over the runs with these, and which runs it comes from, in words."""
    comma = "; " if any(", " in name for name in verdicts) else ", "
    named = [
        f"{word.capitalize()} on {comma.join(name for name, verdict in verdicts.items() if verdict == word)}. "
        for word in ("holds", "fails", "inconclusive")
        if word in verdicts.values()
    ]
    return together(list(verdicts.values())), "".join(named)
