"""Where the claims come from, and how records are read by all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgescope.phases import EscapeTimes, Estimate
from edgescope.store import Record
from edgescope.studies.phases.escapes import times_of

ERSOY = "Ersoy and Wiesner 2026 (arXiv 2606.17120)"
DERIVED = "derived and checked"
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Piece:
    """One reading of a task: its values and its arrays."""

    note: str
    values: dict[str, float]
    arrays: dict[str, np.ndarray]


def pieces_of(runs: Mapping[str, Record], task: str, measure: str, arrays: tuple[str, ...] = ()) -> list[Piece]:
    """The readings of a task in their order; none where it did not run."""
    if task not in runs:
        return []
    table = runs[task].table().filter(measure=measure)
    found = []
    for step in table["step"].unique(maintain_order=True).to_list():
        rows = table.filter(step=step)
        values = dict(rows.drop_nulls("value").select("part", "value").iter_rows())
        kept = {name: runs[task].array(step, measure, name) for name in arrays}
        found.append(Piece(str(rows["note"][0] or ""), values, kept))
    return found


@dataclass(frozen=True)
class Timed:
    """Escapes at one level of noise; ``coldness`` is 1/T or batch/lr."""

    coldness: float
    lr: float
    batch: float
    times: EscapeTimes


def escapes_of(runs: Mapping[str, Record], task: str) -> list[Timed]:
    """What a task of escapes recorded, from hot to cold."""
    found = [
        Timed(
            p.values["coldness"],
            p.values["lr"],
            p.values.get("batch", np.nan),
            times_of(p.arrays["times"], p.arrays["escaped"]),
        )
        for p in pieces_of(runs, task, "escape", ("times", "escaped"))
    ]
    return sorted(found, key=lambda one: one.coldness)


def named(what: str, estimate: Estimate) -> dict[str, float]:
    """A number with its interval, as findings list it."""
    return {what: estimate.value, f"{what}, low": estimate.low, f"{what}, high": estimate.high}
