"""A record of an earlier schema brought to the present one, before it is continued."""

from __future__ import annotations

import itertools
import sqlite3
from typing import Final

from edgescope.store.checksums import (
    CHECKED,
    EMPTY_LEDGER,
    INSERT_LEDGER,
    Ledger,
    reading_checksum,
    row_checksum,
    settings_checksum,
)
from edgescope.store.database import SCHEMA, TABLES
from edgescope.store.seal import open_mark

_CELLS: Final = {"step": "step", "array": "step, slot, part, npy", "event": "step, kind, text, noted, time"}
_READINGS: Final = (
    "SELECT step, slot, measure, note, losses, gradients, products, seconds, position, part, value, error"
    " FROM old_reading JOIN timing USING (step, slot) LEFT JOIN value USING (step, slot) ORDER BY step, slot, position"
)


def upgrade(database: sqlite3.Connection) -> None:
    """Give a record of schema 1 its checksums, inside the caller's transaction; one of the present schema is left."""
    if database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        return
    for table in CHECKED:
        database.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for text in TABLES:
        if text.split()[2] in (*CHECKED, "ledger", "seal"):
            database.execute(text)
    for table, cells in _CELLS.items():
        old = database.execute(f"SELECT {cells} FROM old_{table} ORDER BY rowid")
        marks = ", ".join("?" * (cells.count(",") + 2))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", ((*row, row_checksum(*row)) for row in old))
    for (step, slot), group in itertools.groupby(database.execute(_READINGS), key=lambda row: row[:2]):
        found = list(group)
        _, _, measure, note, *costs = found[0][:8]
        values = [row[8:] for row in found if row[8] is not None]
        checksum = reading_checksum(step, slot, measure, note, costs, values)
        row = (step, slot, measure, note, *costs, checksum)
        database.execute("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    database.execute("DROP TABLE timing")
    rows = total = 0
    for table in CHECKED:
        database.execute(f"DROP TABLE old_{table}")
        count, sum_ = database.execute(f"SELECT count(*), ifnull(sum(checksum), 0) FROM {table}").fetchone()
        rows, total = rows + count, total + sum_
    ledger = Ledger(EMPTY_LEDGER.commits, rows, total, settings_checksum(database))
    database.execute(INSERT_LEDGER, ledger.row())
    database.execute("INSERT INTO seal VALUES (?)", (open_mark(),))
    database.execute(f"PRAGMA user_version = {SCHEMA}")
