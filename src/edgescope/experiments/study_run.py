"""A run of a study as claims and figures see it: its name, its tags, its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgescope.store import Record


@dataclass(frozen=True, eq=False)
class StudyRun:
    """``tags`` say what the run is (method, network, seed), so that nobody has to read it off the name."""

    name: str
    record: Record
    tags: Mapping[str, str] = field(default_factory=dict)


Runs = Mapping[str, StudyRun]
"""The runs of a study that left a record, by name."""
