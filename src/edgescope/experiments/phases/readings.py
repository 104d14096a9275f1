"""What the tasks of this study recorded, as its claims and figures read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.store import Record


@dataclass(frozen=True, eq=False)
class Piece:
    """One reading of a task: its values, and its arrays by name."""

    record: Record
    step: int
    measure: str
    note: str
    values: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        """One of the values; NaN where it was not found."""
        return self.values.get(name, math.nan)

    def array(self, name: str) -> np.ndarray:
        """One of the arrays."""
        return self.record.array(self.step, self.measure, name)


def pieces_of(run: StudyRun, measure: str) -> list[Piece]:
    """The readings of one measure in a run, in their order."""
    table = run.record.table().filter(measure=measure)
    found = []
    for step in table["step"].unique(maintain_order=True).to_list():
        rows = table.filter(step=step)
        values = dict(rows.drop_nulls("value").select("part", "value").iter_rows())
        found.append(Piece(run.record, step, measure, str(rows["note"][0] or ""), values))
    return found


def each_piece(measure: str, name: Callable[[Piece], str], **tags: str) -> CaseSelection[Piece]:
    """The readings of one measure as cases, in the runs with these tags; without those whose name is empty."""

    def readings(run: StudyRun) -> list[Item[Piece]]:
        return [Item(name(p), p) for p in pieces_of(run, measure) if name(p)]

    return tagged(**tags).expand(readings)


NETWORKS = each_piece("network", lambda p: p.note, kind="network")
"""The networks with tanh and ReLU that were swept and trapped, by their names."""

ADDITION = each_piece("addition", lambda p: "addition", kind="addition")
"""The delays and barriers of the network that learns addition."""

ADDITION_SWEEPS = each_piece("addition sweep", lambda p: p.note, kind="addition")
"""Its sweeps: the slow one, and a faster one."""
