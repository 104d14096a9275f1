"""The undamaged parts of a damaged record, as a record in memory."""

from __future__ import annotations

import os
import sqlite3
import warnings
from pathlib import Path
from typing import Final

from edgescope.errors import EdgescopeWarning, RecordError
from edgescope.faq import see
from edgescope.store import database as db
from edgescope.store.checksums import CHECKED, damaged_rows
from edgescope.store.creation import FILE
from edgescope.store.opening import open_unchecked
from edgescope.store.record import Record

_KEYS: Final = {
    "step": ("step",),
    "reading": ("step", "slot"),
    "array": ("step", "slot", "part"),
    "event": ("step", "kind", "text"),
}


def salvage(folder: str | os.PathLike[str]) -> Record:
    """The undamaged parts of the record in ``folder``, in memory; a warning tells of damage.

    Altered rows are left out; missing rows cannot be detected one by one. Raises
    :class:`RecordError` where the file cannot be read as a record at all.
    """
    path = Path(folder) / FILE
    try:
        record = Record.open(folder)
        try:
            record.fingerprint()  # which reads, and so checks, all of it
            return record
        except RecordError:
            record.close()
            raise
    except RecordError:
        if not path.is_file():
            raise
    with db.faults(path):
        opened = open_unchecked(path)
        try:
            if db.schema_of(opened.database, path) != db.SCHEMA:
                raise RecordError(f"{path} was written by an earlier Edgescope, and is damaged", hint="a copy of it")
            memory = db.connect(Path(":memory:"))
            opened.database.backup(memory)
            memory.execute(db.NO_INDEX)  # which may be damaged as well
        finally:
            opened.close()
        left_out = _without_damage(memory)
    warnings.warn(
        f"{path} is damaged: {left_out} rows that are not as they were written are left out, and others may be missing"
        f" {see('damaged-files')}",
        EdgescopeWarning,
        stacklevel=2,
    )
    return Record(Path(":memory:"), memory)


def _without_damage(database: sqlite3.Connection) -> int:
    """Remove all rows that are not as they were written, and what belongs to no row; how many."""
    before = database.total_changes
    for table in CHECKED:
        where = " AND ".join(f"{name} IS ?" for name in _KEYS[table])
        for key in list(damaged_rows(database, table)):
            database.execute(f"DELETE FROM {table} WHERE {where}", key)
    for table in ("value", "array"):
        database.execute(f"DELETE FROM {table} WHERE (step, slot) NOT IN (SELECT step, slot FROM reading)")
    return database.total_changes - before
