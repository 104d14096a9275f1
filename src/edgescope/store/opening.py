"""How the file of a record is opened to be read, without writing where that cannot be, and what its checks find."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edgescope.errors import RecordError
from edgescope.store import database as db
from edgescope.store.checksums import missing_rows, read_ledger
from edgescope.store.lock import Holder, holder_of
from edgescope.store.seal import State, seal_state

_PLACE: Final = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_PERM")
"""Errors that say something of the place of a file, not of the file."""


@dataclass(frozen=True)
class Checked:
    """What the checks of a record found: its ``schema``, its ``state``, and ``problems`` that leave it readable.

    A record of schema 1 is "unchecked". Rows of one that is not "whole" are to be checked as they are read.
    """

    schema: int
    state: State | Literal["unchecked"]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A connection that reads a record, what was found, and the temporary folder that it reads from, if any.

    ``touch`` is whether files may be written beside the record, as it was opened with.
    """

    database: sqlite3.Connection
    checked: Checked
    copy: tempfile.TemporaryDirectory[str] | None = None
    touch: bool = True

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()
        if self.copy is not None:
            self.copy.cleanup()


def open_to_read(path: Path, *, touch: bool = True) -> Opened:
    """Open the record ``path`` and check it.

    A record that its writer has closed is read as it is, one under way beside its writer. What a killed process left
    in a log is read from the log; where SQLite would have to write for that and cannot (a read-only file system, a full
    disk), a copy in a temporary folder is read. With ``touch=False`` nothing at all is written beside the record, not
    even the index of a log. Raises :class:`RecordError` or :class:`sqlite3.Error` for a file that cannot be read.
    """
    holder = holder_of(path.parent)  # before the record, which can only have more commits than its lock tells then
    ways = _ways(path, holder, touch)
    for way in ways[:-1]:
        try:
            return _open(path, way, holder, touch=touch)
        except sqlite3.OperationalError as error:
            if not getattr(error, "sqlite_errorname", "").startswith(_PLACE):
                raise
    return _open(path, ways[-1], holder, touch=touch)


def open_unchecked(path: Path) -> Opened:
    """Open the record ``path`` without a look at it, as far as SQLite can; nothing is written beside it."""
    return _open(path, _ways(path, holder_of(path.parent), touch=False)[0], None, check=False, touch=False)


def check_record(database: sqlite3.Connection, path: Path, holder: Holder | None) -> Checked:
    """Check a record as a whole: its seal where it has one, otherwise its structure and that no row is missing.

    ``holder`` is whom its lock names, or named. Raises :class:`RecordError` or :class:`sqlite3.DatabaseError` for what
    is damaged, foreign or newer.
    """
    schema = db.schema_of(database, path)
    if schema != db.SCHEMA:
        db.check_structure(database, schema)
        return Checked(schema, "unchecked")
    state = seal_state(database, path)
    problems = []
    if state == "altered":
        problems.append("it was altered since it was closed; its rows are checked one by one as they are read")
    with db.snapshot(database):
        if state != "whole":
            db.check_structure(database, schema)
        ledger = read_ledger(database)
        if state != "whole" and (missing := missing_rows(database, ledger)):
            raise sqlite3.DatabaseError(missing)
    lost = 0 if holder is None else holder.commits - ledger.commits
    if lost > 0:
        problems.append(f"its last {lost} commits are lost: the log was damaged, or the power failed")
    return Checked(schema, state, tuple(problems))


def _ways(path: Path, holder: Holder | None, touch: bool) -> list[str]:
    """How to open a record, the second where the first fails for reasons of its place."""
    log, _, journal = db.side_files(path)
    if holder is not None and holder.alive:
        return ["mode=ro", "copy"]
    if any(file.exists() and file.stat().st_size for file in (log, journal)):
        return ["mode=ro", "copy"] if touch else ["copy"]
    return ["mode=rw", "immutable=1"] if touch else ["immutable=1"]


def _open(path: Path, way: str, holder: Holder | None, check: bool = True, touch: bool = True) -> Opened:
    with contextlib.ExitStack() as undo:
        copy = _copied(path) if way == "copy" else None
        if copy is not None:
            undo.callback(copy.cleanup)
        place = path if copy is None else Path(copy.name) / path.name
        database = undo.enter_context(contextlib.closing(db.connect(place, "mode=rw" if copy else way)))
        if way == "mode=rw":  # which SQLite needs to fold in, and put away, an index that it makes only to read
            database.execute("PRAGMA query_only = ON")
        checked = check_record(database, place, holder) if check else Checked(db.SCHEMA, "open")
        if checked.schema == 1:
            database.execute("PRAGMA query_only = OFF")
            database.execute(db.AS_NOW)
        undo.pop_all()
    return Opened(database, checked, copy, touch)


def _copied(path: Path) -> tempfile.TemporaryDirectory[str]:
    """The record with its log, in a temporary folder; as it was at one moment."""
    log, _, journal = db.side_files(path)
    files = [file for file in (path, log, journal) if file.exists()]
    copy = None
    try:
        copy = tempfile.TemporaryDirectory(prefix="edgescope-")
        for _ in range(3):
            before = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            for file in files:
                shutil.copyfile(file, Path(copy.name) / file.name)
            if before == [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]:
                return copy
        raise RecordError(f"{path} changes while it is copied", hint="again later")
    except BaseException as error:
        if copy is not None:
            with contextlib.suppress(OSError):
                copy.cleanup()
        if isinstance(error, OSError):
            raise RecordError(
                f"{path} has a log from a process that was killed, and cannot be read in its folder; a copy in"
                f" {tempfile.gettempdir()} failed too ({error.strerror or error})",
                hint="TMPDIR set to a folder with space for it",
            ) from error
        raise
