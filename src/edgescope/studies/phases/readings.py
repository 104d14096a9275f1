"""What the tasks of this study recorded, as its claims and figures read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from edgescope.phases import EscapeTimes
from edgescope.store import Record
from edgescope.studies.phases.escapes import times_of
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.study_run import StudyRun

ERSOY = "Ersoy and Wiesner 2026 (arXiv 2606.17120)"
KRAMERS = "Kramers 1940; Langer 1969"
THEORY = "closed form (es.theory.deep_linear)"
REPLICATION = "an earlier replication of ours"


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


def each_piece(measure: str, name: Callable[[Piece], str], **tags: str) -> Selection[Piece]:
    """The readings of one measure as cases, in the runs with these tags; without those whose name is empty."""

    def readings(run: StudyRun) -> list[Item[Piece]]:
        return [Item(name(p), p) for p in pieces_of(run, measure) if name(p)]

    return tagged(**tags).expand(readings)


@dataclass(frozen=True)
class Level:
    """Escapes at one level of noise; ``coldness`` is 1/T or batch/lr, ``batch`` NaN under Langevin noise."""

    coldness: float
    lr: float
    batch: float
    times: EscapeTimes

    @property
    def temperature(self) -> float:
        """T under Langevin noise."""
        return 1 / self.coldness


def levels_of(run: StudyRun) -> list[Level]:
    """What a task of escapes recorded, from hot to cold."""
    found = [
        Level(p["coldness"], p["lr"], p["batch"], times_of(p.array("times"), p.array("escaped")))
        for p in pieces_of(run, "escape")
    ]
    return sorted(found, key=lambda one: one.coldness)


def coldest(run: StudyRun) -> Level | None:
    """The coldest level of a task at which ten replicas or more escaped."""
    return next((level for level in reversed(levels_of(run)) if level.times.escapes >= 10), None)


def mean_times(levels: Sequence[tuple[str, Level]]) -> pl.DataFrame:
    """The mean times of levels of named runs with two escapes or more, and their intervals, as charts take them."""
    shown = [(name, level.coldness, level.times.mean()) for name, level in levels if level.times.escapes >= 2]
    rows = [(name, coldness, mean.low, mean.value, mean.high) for name, coldness, mean in shown]
    return pl.DataFrame(rows, schema=["run", "x", "low", "middle", "high"], orient="row")


def escapes(**tags: str) -> Selection[StudyRun]:
    """The tasks that timed escapes, with these tags; each a case named by its model."""
    return tagged(kind="escapes", **tags).expand(lambda run: [Item(run.tags["model"], run)])
