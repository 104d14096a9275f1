"""From what was read at one step to the rows of a record."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from edgescope.errors import InputError
from edgescope.store.cells import encode_array, encode_number
from edgescope.store.checksums import Value, reading_checksum, row_checksum
from edgescope.store.database import STEP_TABLES
from edgescope.store.writing import Transaction

if TYPE_CHECKING:  # a reader of records needs neither the measures nor the objective below them
    from edgescope.measures.reading import Reading


class Cells(NamedTuple):
    """What one reading is in a record, but for its step and slot. ``costs``: losses, gradients, products, seconds."""

    measure: str
    note: str
    costs: tuple[Any, ...]
    values: list[Value]
    arrays: list[tuple[str, bytes]]

    @classmethod
    def of(cls, reading: Reading) -> Cells:
        """Of a reading; :class:`InputError` for what a record cannot hold."""
        name, cost = f"measure '{reading.measure}'", reading.cost
        values = []
        for position, (part, value) in enumerate(reading.values.items()):
            error = encode_number(reading.errors.get(part), f"the error of {name}")
            values.append((position, part, encode_number(value, name), error))
        arrays = [(part, encode_array(array, name)) for part, array in reading.arrays.items()]
        costs = (cost.losses, cost.gradients, cost.products, float(reading.seconds))
        return cls(reading.measure, reading.note, costs, values, arrays)


def cells_of(step: int, readings: Iterable[Reading]) -> list[Cells]:
    """Of all readings of one step; no two of the same measure."""
    found: list[Cells] = []
    for reading in readings:
        if any(other.measure == reading.measure for other in found):
            raise InputError(f"measure '{reading.measure}' was given twice at step {step}")
        found.append(Cells.of(reading))
    return found


def write_step(work: Transaction, step: int, readings: Sequence[Cells], add: bool) -> None:
    """Write all of a step, in place of what it has, or with ``add`` of what it has of the same measures."""
    first = _make_room(work, step, [reading.measure for reading in readings] if add else None)
    kept, values, arrays = [], [], []
    for slot, one in enumerate(readings, first):
        sum_ = reading_checksum(step, slot, one.measure, one.note, one.costs, one.values)
        kept.append((step, slot, one.measure, one.note, *one.costs, sum_))
        values += [(step, slot, *value) for value in one.values]
        arrays += [(step, slot, part, npy, row_checksum(step, slot, part, npy)) for part, npy in one.arrays]
    work.insert("reading", kept)
    work.insert("value", values)
    work.insert("array", arrays)


def remove_after(work: Transaction, step: int, kept: Sequence[str]) -> int:
    """Remove all of later steps than this one, except events of the kinds ``kept``; how many steps that were."""
    (count,) = work.database.execute("SELECT count(*) FROM step WHERE step > ?", (step,)).fetchone()
    for table in ("step", *STEP_TABLES):
        work.delete(table, "step > ?", (step,))
    marks = ", ".join("?" * len(kept))
    work.delete("event", f"step > ? AND kind NOT IN ({marks})", (step, *kept))
    return int(count)


def forget(
    work: Transaction, step: int, measures: set[str], events: set[tuple[str, ...]], kinds: Sequence[str]
) -> None:
    """Remove what a step has but readings of ``measures``, these ``events`` (kind, text), and events of ``kinds``."""
    found = work.database.execute("SELECT slot, measure FROM reading WHERE step = ?", (step,)).fetchall()
    for slot, measure in found:
        if measure not in measures:
            for table in STEP_TABLES:
                work.delete(table, "step = ? AND slot = ?", (step, slot))
    if not measures.intersection(measure for _, measure in found):
        work.delete("step", "step = ?", (step,))
    for kind, text in work.database.execute("SELECT kind, text FROM event WHERE step = ?", (step,)).fetchall():
        if kind not in kinds and (kind, text) not in events:
            work.delete("event", "step = ? AND kind = ? AND text = ?", (step, kind, text))


def as_step(step: int) -> int:
    """The number of a step; :class:`InputError` for anything else."""
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise InputError(f"step {step!r}", expected="a whole number from 0")
    return number


def _make_room(work: Transaction, step: int, measures: Sequence[str] | None) -> int:
    """Remove what a step holds, or of these ``measures`` alone; the first slot that is free then."""
    if work.database.execute("SELECT 1 FROM step WHERE step = ?", (step,)).fetchone() is None:
        work.insert("step", [(step, row_checksum(step))])
        return 0
    if measures is None:
        for table in STEP_TABLES:
            work.delete(table, "step = ?", (step,))
        work.delete("event", "step = ? AND noted = 0", (step,))
        return 0
    for measure in measures:
        query = "SELECT slot FROM reading WHERE step = ? AND measure = ?"
        for (slot,) in work.database.execute(query, (step, measure)).fetchall():
            for table in STEP_TABLES:
                work.delete(table, "step = ? AND slot = ?", (step, slot))
    query = "SELECT ifnull(max(slot), -1) + 1 FROM reading WHERE step = ?"
    return int(work.database.execute(query, (step,)).fetchone()[0])
