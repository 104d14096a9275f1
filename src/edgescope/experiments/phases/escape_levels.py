"""Escapes at several levels of noise, as the tasks that time them have recorded them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.phases import EscapeTimes


@dataclass(frozen=True)
class Level:
    """Escapes at one level of noise; ``coldness`` is 1/T, batch/lr or barrier/T, ``batch`` NaN under Langevin noise."""

    coldness: float
    times: EscapeTimes
    lr: float = math.nan
    batch: float = math.nan

    @property
    def temperature(self) -> float:
        """T under Langevin noise."""
        return 1 / self.coldness


def escapes(**tags: str) -> CaseSelection[StudyRun]:
    """The tasks that timed escapes, with these tags; each a case named by its model."""
    return tagged(kind="escapes", **tags).expand(lambda run: [Item(run.tags["model"], run)])


def levels_of(run: StudyRun) -> list[Level]:
    """What a task of escapes recorded, from hot to cold."""
    found = []
    for p in pieces_of(run, "escape"):
        # A replica that began beyond the level has the time 0, and times have to be positive.
        times = EscapeTimes(np.maximum(p.array("times"), 1e-9), p.array("escaped") > 0)
        found.append(Level(p["coldness"], times, p["lr"], p["batch"]))
    return sorted(found, key=lambda one: one.coldness)


def levels_of_network(p: Piece) -> list[Level]:
    """Escapes of a network that is not linear, one level a decay, with barrier/T as its coldness.

    None of a decay at which no path out of the trap had converged.
    """
    temperature, rows = p["temperature"], zip(p.array("height"), p.array("times"), p.array("escaped"), strict=False)
    return [
        Level(float(height) / temperature, EscapeTimes(times, escaped > 0))
        for height, times, escaped in rows
        if temperature > 0 and np.isfinite(height)
    ]


def coldest(run: StudyRun) -> Level | None:
    """The coldest level of a task at which ten replicas or more escaped."""
    return next((level for level in reversed(levels_of(run)) if level.times.escapes >= 10), None)


def mean_times(levels: Sequence[tuple[str, Level]]) -> pl.DataFrame:
    """The mean times of levels of named runs with two escapes or more, and their intervals, as charts take them."""
    shown = [(name, level.coldness, level.times.mean()) for name, level in levels if level.times.escapes >= 2]
    rows = [(name, coldness, mean.low, mean.value, mean.high) for name, coldness, mean in shown]
    return pl.DataFrame(rows, schema=["run", "x", "low", "middle", "high"], orient="row")
