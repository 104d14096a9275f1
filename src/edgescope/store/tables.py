"""The tables that a record gives: its rows, read by these queries, as data frames."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgescope.errors import EdgescopeError, RecordError, UnknownNameError
from edgescope.extras import Optional
from edgescope.near_names import suggestion
from edgescope.store.cells import decode_number

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

Rows = list[tuple[Any, ...]]

FETCHED: Final = 20_000
"""Rows that are Python objects at a time."""

_READINGS: Final = (
    "SELECT step, measure, ifnull(part, ''), value, error, iif(first, losses, NULL),"
    " iif(first, gradients, NULL), iif(first, products, NULL), note FROM"
    " (SELECT *, ifnull(position, 0) = 0 AS first FROM reading LEFT JOIN value USING (step, slot) WHERE {})"
    " ORDER BY step, slot, position"
)
_SERIES: Final = (
    "SELECT step, value FROM reading JOIN value USING (step, slot) WHERE {}measure = ? AND part = ? ORDER BY step"
)
NOT_INDEXED: Final = "+"
"""Before a column: keeps SQLite from its index, which has no checksum of its own and may not be whole."""
ARRAY: Final = "SELECT npy FROM reading JOIN array USING (step, slot) WHERE step = ? AND +measure = ? AND part = ?"
WITH_ARRAYS: Final = "SELECT DISTINCT measure FROM reading JOIN array USING (step, slot)"
CONTENT: Final = (
    "SELECT key, value FROM meta ORDER BY key",
    "SELECT step FROM step ORDER BY step",
    "SELECT step, slot, measure, note FROM reading ORDER BY step, slot",
    "SELECT step, slot, part, value, error FROM value ORDER BY step, slot, position",
    "SELECT step, slot, part, npy FROM array ORDER BY step, slot, part",
)
"""All that a run found, but for its events."""

MEASURES: Final = "SELECT DISTINCT +measure FROM reading ORDER BY 1"
LAST_OF: Final = "SELECT max(step) FROM (SELECT step FROM step WHERE step > ? ORDER BY step LIMIT ?)"
COSTS: Final = "SELECT step, measure, losses, gradients, products, seconds FROM reading ORDER BY step, slot"
EVENTS: Final = "SELECT step, kind, text, time FROM event ORDER BY step, rowid"

_DAMAGED: Final = (ValueError, TypeError, EOFError, OverflowError, MemoryError, SyntaxError, RecursionError)


def select_readings(
    database: sqlite3.Connection, measures: Sequence[str] = (), steps: tuple[int, int] | None = None
) -> sqlite3.Cursor:
    """The rows of readings, of all or these ``measures``, at all steps or from the first to the last of ``steps``."""
    where = [f"+measure IN ({', '.join('?' * len(measures))})"] if measures else []
    where += ["step BETWEEN ? AND ?"] if steps else []
    return database.execute(_READINGS.format(" AND ".join(where) or "TRUE"), (*measures, *(steps or ())))


def select_series(database: sqlite3.Connection, measure: str, part: str, indexed: bool) -> sqlite3.Cursor:
    """Steps and values of one scalar, by the index of measures where there is one that may be trusted."""
    return database.execute(_SERIES.format("" if indexed else NOT_INDEXED), (measure, part))


def readings_table(rows: sqlite3.Cursor) -> pl.DataFrame:
    """The rows that :func:`select_readings` gives."""
    columns = {"step": pl.Int64, "measure": pl.String, "part": pl.String, "value": pl.Float64, "error": pl.Float64}
    counts = {"losses": pl.Int64, "gradients": pl.Int64, "products": pl.Int64}
    schema = columns | counts | {"note": pl.String}

    def decoded(some: Rows) -> pl.DataFrame:
        cells = [(*row[:3], decode_number(row[3]), decode_number(row[4]), *row[5:]) for row in some]
        return pl.DataFrame(cells, schema=schema, orient="row")

    return _in_pieces(rows, decoded)


def _in_pieces(rows: sqlite3.Cursor, table_of: Callable[[Rows], pl.DataFrame]) -> pl.DataFrame:
    """The table of many rows, of which only some are Python objects at a time: these take ten times the memory."""
    tables = [table_of(rows.fetchmany(FETCHED))]
    while tables[-1].height == FETCHED:
        tables.append(table_of(rows.fetchmany(FETCHED)))
    return pl.concat(tables) if len(tables) > 1 else tables[0]


def costs_table(rows: sqlite3.Cursor) -> pl.DataFrame:
    """The rows of ``COSTS``."""
    columns = {"step": pl.Int64, "measure": pl.String, "losses": pl.Int64, "gradients": pl.Int64}
    schema = columns | {"products": pl.Int64, "seconds": pl.Float64}
    return _in_pieces(rows, lambda some: pl.DataFrame(some, schema=schema, orient="row"))


def events_table(rows: Rows) -> pl.DataFrame:
    """The rows of ``EVENTS``."""
    columns = {"step": pl.Int64, "kind": pl.String, "text": pl.String, "time": pl.String}
    return pl.DataFrame(rows, schema=columns, orient="row")


def wide_table(readings: pl.DataFrame, every: Sequence[str], arrays: set[str], names: Sequence[str]) -> pl.DataFrame:
    """One row a step and a column a scalar, of the measures or columns ``names``, or of all.

    ``every`` are the measures of the record, of which ``readings`` need not have those that are not named. ``arrays``
    are the measures that have arrays: without a value they are no column unless named. Raises
    :class:`UnknownNameError`.
    """
    table = readings.lazy().select("step", "measure", "part", "value").filter(pl.col("value").is_not_null()).collect()
    column = pl.when(pl.col("part") == "").then(pl.col("measure")).otherwise(pl.format("{}/{}", "measure", "part"))
    table = table.with_columns(column.alias("column"))
    known = table.select("column", "measure").unique(maintain_order=True).rows()
    measures = readings["measure"].unique(maintain_order=True).to_list()
    empty = [m for m in measures if m not in {measure for _, measure in known} and (m in names or m not in arrays)]
    known += [(measure, measure) for measure in empty]
    chosen: dict[str, str] = {}
    for name in names or [column for column, _ in known]:
        matching = {column: measure for column, measure in known if name in (column, measure)}
        if not matching:
            raise unknown_measure(name, list(every))
        chosen |= matching
    steps = readings.filter(pl.col("measure").is_in(list(chosen.values()))).select("step").unique().sort("step")
    if table.is_empty():
        return steps.with_columns(pl.lit(None, pl.Float64).alias(column) for column in chosen)
    found = table.pivot("column", index="step", values="value")
    nothing = (pl.lit(None, pl.Float64).alias(column) for column in chosen if column in empty)
    return steps.join(found, on="step", how="left").with_columns(nothing).sort("step").select("step", *chosen)


def require_measure(database: sqlite3.Connection, name: str) -> None:
    """Raise :class:`UnknownNameError` where a record with readings has none of this measure."""
    known = [measure for (measure,) in database.execute(MEASURES)]
    if known and name not in known:
        raise unknown_measure(name, known)


def unknown_measure(name: str, known: list[str]) -> UnknownNameError:
    """That a record has no measure of this name, with the nearest that it has."""
    expected = f"one of {', '.join(known)}" if known else "a record with readings"
    return UnknownNameError(f"no measure '{name}' in the record", expected=expected, hint=suggestion(name, known))


@contextlib.contextmanager
def damaged_cells(path: Path) -> Iterator[None]:
    """A cell that does not hold what it should becomes one :class:`RecordError`."""
    try:
        yield
    except (*_DAMAGED, pl.exceptions.PolarsError) as error:
        if isinstance(error, EdgescopeError):
            raise
        text = " ".join(str(error).split())[:120]
        raise RecordError(
            f"{path} is damaged: a cell cannot be read ({text})", hint=f"edgescope verify {path.parent}"
        ) from error
