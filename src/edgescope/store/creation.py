"""A new record, which appears whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from edgescope.atomic import write_aside
from edgescope.errors import RecordError
from edgescope.store import database as db
from edgescope.store.cells import encode_json
from edgescope.store.checkpoint import checkpoint_files
from edgescope.store.checksums import EMPTY_LEDGER, INSERT_LEDGER, UPDATE_LEDGER, Ledger, settings_checksum
from edgescope.store.database import FILE
from edgescope.store.info import run_info
from edgescope.store.lock import RunLock
from edgescope.store.seal import open_mark
from edgescope.store.tags import with_tags
from edgescope.store.writing import Writer

RESUME_OR: Final = "resume=True to continue it (--resume on the command line), or another folder"


def create_record(
    folder: Path, config: dict[str, Any], command: str | None, overwrite: bool, tags: dict[str, str]
) -> Writer:
    """The writer of a new record in ``folder``, in place of an old one where ``overwrite`` says so."""
    path = folder / FILE
    text = encode_json(config, "the configuration")
    new, lock = not folder.exists(), None
    with db.faults(path):
        stale = checkpoint_files(folder)
        if (path.exists() or stale) and not overwrite:
            kind = "a record" if path.exists() else "checkpoints"
            raise RecordError(f"{folder} already contains {kind} of a run", hint=RESUME_OR)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = RunLock(folder)
            with write_aside(path) as aside:
                _make(aside, text, with_tags(run_info(command), tags))
                for old in (*db.side_files(path), *stale):  # a resumed run must not go on with those of the run before
                    old.unlink(missing_ok=True)
            try:
                return Writer.of(path, lock, fresh=True)
            except BaseException:
                for file in (path, *db.side_files(path)):
                    file.unlink(missing_ok=True)
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            if new:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


def fill(database: sqlite3.Connection, config: dict[str, Any] | str, info: dict[str, Any]) -> None:
    """Make the tables of a new record and its settings."""
    text = config if isinstance(config, str) else encode_json(config, "the configuration")
    with db.transaction(database):
        lay_out(database)
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("config", text), ("status", "running")])
        cells = [(key, encode_json(value, key)) for key, value in info.items()]
        database.executemany("INSERT INTO info VALUES (?, ?)", cells)
        database.execute(UPDATE_LEDGER, Ledger(0, 0, 0, settings_checksum(database)).row())


def lay_out(database: sqlite3.Connection) -> None:
    """Make the tables of an empty database and mark it as a record."""
    database.execute(f"PRAGMA application_id = {db.APPLICATION}")
    database.execute(f"PRAGMA user_version = {db.SCHEMA}")
    for table in db.TABLES:
        database.execute(table)
    database.execute(INSERT_LEDGER, EMPTY_LEDGER.row())
    database.execute("INSERT INTO seal VALUES (?)", (open_mark(),))


def _make(aside: Path, config: str, info: dict[str, Any]) -> None:
    with contextlib.closing(db.connect(aside, "mode=rw")) as database:
        database.execute("PRAGMA journal_mode = OFF")  # a file that is not finished is thrown away
        database.execute("PRAGMA synchronous = OFF")  # and flushed once, as a whole
        fill(database, config, info)
    with aside.open("r+b") as file:  # WAL mode, as two bytes of the header say it: a commit that nobody has to wait for
        file.seek(18)
        file.write(b"\2\2")
