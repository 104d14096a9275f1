"""The arrays that a record has: which there are, and all of one kind in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import polars as pl

from edgescope.store.cells import decode_array
from edgescope.store.record import Record

_KINDS = "SELECT measure, part, count(*), max(length(npy)) FROM reading JOIN array USING (step, slot) GROUP BY 1, 2"
_STEPS = "SELECT step FROM reading JOIN array USING (step, slot) WHERE measure = ? AND part = ? ORDER BY step"
_ARRAYS = "SELECT step, npy FROM reading JOIN array USING (step, slot) WHERE measure = ? AND part = ? ORDER BY step"


def kinds_of_arrays(record: Record) -> pl.DataFrame:
    """Measure, part, ``count`` of steps, and the ``bytes`` of the largest one; a row for each kind of array."""
    with record._reader.reading("array", "reading") as database:
        rows = database.execute(_KINDS).fetchall()
    kinds = {"measure": pl.String, "part": pl.String, "count": pl.Int64, "bytes": pl.Int64}
    return pl.DataFrame(rows, schema=kinds, orient="row").sort("measure", "part")


def steps_with_array(record: Record, measure: str, part: str) -> list[int]:
    """The steps at which the measure has this array, in order."""
    with record._reader.reading("array", "reading", measure=measure) as database:
        return [step for (step,) in database.execute(_STEPS, (measure, part))]


def arrays_at(record: Record, measure: str, part: str, steps: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Those of these steps that the record has, with their steps, in order."""
    wanted = set(steps)
    with record._reader.reading("array", "reading", measure=measure) as database:
        for step, cell in database.execute(_ARRAYS, (measure, part)):
            if step in wanted:
                yield step, decode_array(cell)
