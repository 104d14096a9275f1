"""The SQLite file below a record: its tables, its connections and transactions, and its faults told in one line."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgescope.disk_errors import disk_is_full, storage_error, why_not_writable
from edgescope.errors import RecordError

FILE: Final = "record.sqlite"
"""The name of the record in the folder of a run."""

SCHEMA: Final = 2
APPLICATION: Final = 0x45646765  # "Edge", in the header of the file
BUSY_SECONDS: Final = 2.0
KEPT: Final = "what was committed before is kept"
RESUME: Final = "freeing space, then --resume"

# Numbers lie in columns without a type: a REAL column would turn -0.0 into 0, and NaN is kept as text (cells.py).
TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE step (step INTEGER PRIMARY KEY, checksum INTEGER NOT NULL)",
    """CREATE TABLE reading (step INTEGER, slot INTEGER, measure TEXT NOT NULL, note TEXT NOT NULL,
                             losses INTEGER NOT NULL, gradients INTEGER NOT NULL, products INTEGER NOT NULL,
                             seconds REAL NOT NULL, checksum INTEGER NOT NULL,
                             PRIMARY KEY (step, slot)) WITHOUT ROWID""",
    """CREATE TABLE value (step INTEGER, slot INTEGER, position INTEGER, part TEXT NOT NULL, value, error,
                           PRIMARY KEY (step, slot, position)) WITHOUT ROWID""",
    """CREATE TABLE array (step INTEGER, slot INTEGER, part TEXT NOT NULL, npy BLOB NOT NULL,
                           checksum INTEGER NOT NULL, PRIMARY KEY (step, slot, part))""",
    """CREATE TABLE event (step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, noted INTEGER NOT NULL,
                           time TEXT NOT NULL, checksum INTEGER NOT NULL, UNIQUE (step, kind, text))""",
    "CREATE TABLE ledger (commits INTEGER, rows INTEGER, total INTEGER, settings INTEGER, checksum INTEGER)",
    "CREATE TABLE seal (mark BLOB NOT NULL)",
)
INDEX: Final = "CREATE INDEX IF NOT EXISTS reading_of_measure ON reading (measure, step)"
NO_INDEX: Final = "DROP INDEX IF EXISTS reading_of_measure"
"""Made when a large record is closed, so that one measure can be read by itself. No checksum covers it but the digest
of the whole file: a record that is not closed is read without it."""

INDEXED_FROM: Final = 10_000
"""Readings from which on there is an index."""

STEP_TABLES: Final = ("reading", "value", "array")
"""What a step written again replaces."""

AS_NOW: Final = """CREATE TEMP VIEW reading AS SELECT step, slot, measure, note, losses, gradients, products, seconds
                   FROM main.reading JOIN main.timing USING (step, slot)"""
"""In a record of schema 1 costs have a table of their own; over this view its readings read like those of today."""


def connect(path: Path, access: str = "mode=rwc") -> sqlite3.Connection:
    """A connection in autocommit mode, which waits at most two seconds for another process.

    ``access`` is how SQLite is to open the file: ``mode=rw``, ``mode=ro`` or ``immutable=1``; by default it is made.
    """
    name = str(path) if str(path) == ":memory:" else f"{path.absolute().as_uri()}?{access}"
    # A record that nobody closed is closed by the garbage collector, in whichever thread that happens to run.
    database = sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=name != ":memory:"
    )
    try:
        # A schema from elsewhere may not call functions that reach beyond the file.
        database.execute("PRAGMA trusted_schema = OFF")
        # In WAL mode this survives a killed process; a power cut may cost the last commits, never the file.
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:  # UnicodeDecodeError among them, for a damaged name in what SQLite has to say
        database.close()
        raise
    return database


def schema_of(database: sqlite3.Connection, path: Path) -> int:
    """The schema of a record; :class:`RecordError` for a file that is foreign or newer than this Edgescope."""
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
    return int(schema)


def check_structure(database: sqlite3.Connection, schema: int) -> None:
    """Raise :class:`sqlite3.DatabaseError` where the file is damaged, as far as SQLite itself can see it."""
    refuse_programs(database)
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    if schema == SCHEMA:
        found = {text for (text,) in database.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
        if not found.issuperset(TABLES):
            raise sqlite3.DatabaseError("its tables are not those of a record")
    elif schema != 1:
        raise sqlite3.DatabaseError(f"no schema {schema} is known")


def refuse_programs(database: sqlite3.Connection) -> None:
    """Raise :class:`sqlite3.DatabaseError` for a file with views or triggers: reading or writing it would run them."""
    query = "SELECT type FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR sql LIKE '%VIRTUAL%' LIMIT 1"
    found = database.execute(query).fetchone()
    if found is not None:
        raise sqlite3.DatabaseError(f"it holds a {found[0]} that no record has")


def side_files(path: Path) -> list[Path]:
    """The files that SQLite keeps beside a database while it is open."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


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
def snapshot(database: sqlite3.Connection) -> Iterator[None]:
    """All that the block reads is of one moment, whatever others write meanwhile."""
    if database.in_transaction:
        yield
        return
    database.execute("BEGIN")
    try:
        yield
    finally:
        if database.in_transaction:
            database.execute("COMMIT")


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into one :class:`RecordError` about ``path``."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # a damaged name in what SQLite has to say
        raise record_error(error, path) from error


def record_error(error: Exception, path: Path) -> RecordError:
    """The one line that tells what a fault in a file of a run means, what is kept, and what to try."""
    text = " ".join(str(error).split())
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
        hint = (
            "Monitor.table(), which still answers"
            if path.parent.name == ":memory:"
            else f"Record.open('{path.parent}')"
        )
        return RecordError("the record is closed", expected="an open one", hint=hint)
    code = getattr(error, "sqlite_errorname", "")
    if isinstance(error, OSError) or disk_is_full(error) or code == "SQLITE_FULL":
        full = code == "SQLITE_FULL"
        return storage_error(OSError(28, "No space left on device") if full else error, path, KEPT, RESUME)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RecordError(f"{path} is locked by another process; {KEPT}", hint="again once that process has ended")
    # Which Python says of a cell, or of a damaged name in what SQLite has to say.
    damaged = text.startswith("Could not decode to UTF-8") or isinstance(error, UnicodeDecodeError)
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or type(error) is sqlite3.DatabaseError or damaged:
        return RecordError(f"{path} is damaged or no record ({text})", hint=f"edgescope verify {path.parent}")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR")):
        if _no_space(path):  # SQLite reports an index of the log that cannot grow as an I/O error
            return storage_error(OSError(28, "No space left on device"), path, KEPT, RESUME)
        why = why_not_writable(path) or f"cannot read or write {path} ({text})"
        return RecordError(f"{why}; {KEPT}", hint="a folder that this user may write to")
    return RecordError(f"{path} failed ({text}); {KEPT}")


def _no_space(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 65536
    except OSError:
        return False
