"""Checksums of what a record holds, and the ledger that adds them up, so that no row changes or vanishes unseen.

A reading is checked as a whole: its row, what it cost, and its values. So are each array, event and step; the settings
(configuration, status, info) have one checksum together. CRC-32 finds every single flipped bit and every run of up to
32; other damage passes with a chance of 2^-32. The ledger keeps how many commits were made, how many such rows there
are, and the sum of their checksums, all of which a commit changes in its own transaction.
"""

from __future__ import annotations

import itertools
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Cell = int | float | str | bytes | None
Value = tuple[int, str, float | str | None, float | str | None]
"""Position, part, value and error of a reading, as they lie in the table."""

CHECKED: Final = ("step", "reading", "array", "event")
"""The tables whose rows have a checksum."""

LEDGER: Final = "SELECT commits, rows, total, settings, checksum FROM ledger"
INSERT_LEDGER: Final = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?)"
UPDATE_LEDGER: Final = "UPDATE ledger SET commits = ?, rows = ?, total = ?, settings = ?, checksum = ?"

_NULL: Final = struct.unpack("<d", b"NULL\0\0\xf8\x7f")[0]  # a NaN that no arithmetic gives: what is not there


def row_checksum(*cells: object) -> int:
    """The checksum of a row's cells, by kind and content."""
    sum_ = 0
    for cell in cells:
        if isinstance(cell, bytes):
            sum_ = zlib.crc32(cell, zlib.crc32(b"\0b", sum_))
        else:
            kind = b"\0t" if isinstance(cell, str) else b"\0n"
            sum_ = zlib.crc32(kind + str(cell).encode("utf-8", "surrogatepass"), sum_)
    return sum_


def reading_checksum(
    step: int, slot: int, measure: str, note: str, costs: Sequence[float], values: Sequence[Value]
) -> int:
    """The checksum of a reading: ``costs`` are losses, gradients, products, seconds."""
    numbers: list[Any] = [*costs]
    texts = [measure, note]
    for position, part, value, error in values:
        texts.append(part)
        numbers += (position, _NULL if value is None else float(value), _NULL if error is None else float(error))
    packed = struct.pack(f"<qq{len(numbers)}d", step, slot, *numbers)
    return zlib.crc32("\0".join(texts).encode("utf-8", "surrogatepass"), zlib.crc32(packed))


@dataclass(frozen=True)
class Ledger:
    """How many ``commits``, how many checked ``rows``, the ``total`` of their checksums, and that of the settings."""

    commits: int
    rows: int
    total: int
    settings: int

    def row(self) -> tuple[int, ...]:
        """As it lies in its table."""
        cells = (self.commits, self.rows, self.total, self.settings)
        return (*cells, zlib.crc32(struct.pack("<4q", *cells)))


EMPTY_LEDGER: Final = Ledger(0, 0, 0, 0)


def read_ledger(database: sqlite3.Connection) -> Ledger:
    """The ledger; :class:`sqlite3.DatabaseError` where it is damaged."""
    rows = database.execute(LEDGER).fetchall()
    if len(rows) == 1 and all(isinstance(cell, int) for cell in rows[0]):
        ledger = Ledger(*rows[0][:4])
        if ledger.row() == rows[0]:
            return ledger
    raise sqlite3.DatabaseError("its ledger is missing, or was altered")


def settings_checksum(database: sqlite3.Connection) -> int:
    """The checksum of configuration, status and info."""
    sum_ = 0
    for table in ("meta", "info"):
        for row in database.execute(f"SELECT key, value FROM {table} ORDER BY key"):
            sum_ = row_checksum(sum_, *row)
    return sum_


def missing_rows(database: sqlite3.Connection, ledger: Ledger) -> str:
    """What the ledger counts otherwise than the tables have it, in a few words; empty where they agree."""
    rows = total = 0
    for table in CHECKED:
        found, sum_ = database.execute(f"SELECT count(*), ifnull(sum(checksum), 0) FROM {table}").fetchone()
        rows, total = rows + found, total + sum_
    if rows != ledger.rows:
        return f"it has {rows} rows where {ledger.rows} were written"
    if total != ledger.total:
        return "its rows are not those that were written"
    if settings_checksum(database) != ledger.settings:
        return "its configuration, status or info were altered"
    return ""


def damaged_rows(
    database: sqlite3.Connection, table: str, measure: str | None = None, steps: tuple[int, int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """The keys, step first, of the rows of a checked table that are not as they were written.

    Those of ``steps`` from the first to the last, and of readings (``reading``, with their values and costs) those of
    one ``measure`` alone, where these are given.
    """
    if table == "reading":
        yield from _damaged_readings(database, measure, steps)
        return
    cells, key = {
        "step": ("step", 1),
        "array": ("step, slot, part, npy", 3),
        "event": ("step, kind, text, noted, time", 3),
    }[table]
    chosen = "" if steps is None else "WHERE step BETWEEN ? AND ?"
    for *row, checksum in database.execute(
        f"SELECT {cells}, checksum FROM {table} {chosen} ORDER BY step", steps or ()
    ):
        if row_checksum(*row) != checksum:
            yield tuple(row[:key])


def _damaged_readings(
    database: sqlite3.Connection, measure: str | None, steps: tuple[int, int] | None
) -> Iterator[tuple[Any, ...]]:
    # +measure keeps SQLite from the index of measures, which has no checksum of its own.
    chosen = ("" if measure is None else " AND +measure = ?") + ("" if steps is None else " AND step BETWEEN ? AND ?")
    rows = database.execute(
        "SELECT step, slot, measure, note, checksum, losses, gradients, products, seconds, position, part, value, error"
        f" FROM reading LEFT JOIN value USING (step, slot) WHERE TRUE{chosen}"
        " ORDER BY step, slot, position",
        (*(() if measure is None else (measure,)), *(steps or ())),
    )
    for (step, slot), group in itertools.groupby(rows, key=lambda row: row[:2]):
        found = list(group)
        _, _, name, note, checksum, *costs = found[0][:9]
        values = [row[9:] for row in found if row[9] is not None]
        try:
            whole = reading_checksum(step, slot, name, note, costs, values) == checksum
        except (TypeError, ValueError, struct.error):  # a cell of another kind
            whole = False
        if not whole:
            yield step, slot
