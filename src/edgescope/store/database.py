"""The SQLite file below a record: its tables, its connections and transactions, and its faults told in one line."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgescope.errors import RecordError

SCHEMA: Final = 1
APPLICATION: Final = 0x45646765  # "Edge", in the header of the file
BUSY_SECONDS: Final = 2.0

# Numbers lie in columns without a type: a REAL column would turn -0.0 into 0, and NaN is kept as text (cells.py).
TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE step (step INTEGER PRIMARY KEY)",
    """CREATE TABLE reading (step INTEGER, slot INTEGER, measure TEXT NOT NULL, note TEXT NOT NULL,
                             PRIMARY KEY (step, slot)) WITHOUT ROWID""",
    """CREATE TABLE value (step INTEGER, slot INTEGER, position INTEGER, part TEXT NOT NULL, value, error,
                           PRIMARY KEY (step, slot, position)) WITHOUT ROWID""",
    """CREATE TABLE array (step INTEGER, slot INTEGER, part TEXT NOT NULL, npy BLOB NOT NULL,
                           PRIMARY KEY (step, slot, part))""",
    """CREATE TABLE timing (step INTEGER, slot INTEGER, losses INTEGER NOT NULL, gradients INTEGER NOT NULL,
                            products INTEGER NOT NULL, seconds REAL NOT NULL,
                            PRIMARY KEY (step, slot)) WITHOUT ROWID""",
    """CREATE TABLE event (step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, noted INTEGER NOT NULL,
                           time TEXT NOT NULL, UNIQUE (step, kind, text))""",
)
STEP_TABLES: Final = ("step", "reading", "value", "array", "timing")  # what a step written again replaces


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, which waits at most two seconds for another process."""
    # A record that nobody closed is closed by the garbage collector, in whichever thread that happens to run.
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # In WAL mode this survives a killed process; a power cut may cost the last commits, never the file.
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def lay_out(database: sqlite3.Connection) -> None:
    """Make the tables of an empty database and mark it as a record."""
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {SCHEMA}")
    for table in TABLES:
        database.execute(table)


def check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse, as :class:`RecordError`, a file that is foreign, newer than this Edgescope, or damaged."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise RecordError(f"{path} is not a record of Edgescope", expected="the folder of a run")
    if schema > SCHEMA:
        raise RecordError(
            f"{path} was written by a newer Edgescope (schema {schema})",
            expected=f"schema {SCHEMA} or older",
            hint="pip install --upgrade edgescope",
        )
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def remove(path: Path) -> None:
    """Remove a database with its write-ahead log."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # after a full disk SQLite has rolled back by itself
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into one :class:`RecordError` about ``path``."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise record_error(error, path) from error


def record_error(error: Exception, path: Path) -> RecordError:
    """The one line that tells what a fault in a file of a run means, what is kept, and what to try."""
    text = " ".join(str(error).split())
    code = getattr(error, "sqlite_errorname", "")
    number = getattr(error, "errno", None)
    kept = "what was committed before is kept"
    # safetensors reports the system's error as text
    if code == "SQLITE_FULL" or number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return RecordError(f"the disk is full while writing {path}; {kept}", hint="freeing space, then --resume")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RecordError(f"{path} is locked by another process; {kept}", hint="again once that process has ended")
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or type(error) is sqlite3.DatabaseError:
        return RecordError(f"{path} is damaged or no record ({text})", hint="a copy of it, or another folder")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")) or isinstance(error, OSError):
        hint = "a folder that this user may write to"
        return RecordError(f"cannot read or write {path} ({text}); {kept}", hint=hint)
    return RecordError(f"{path} failed ({text}); {kept}")
