"""The connection through which a record is read: checked where it must be, and let go of while many others are read.

A program may open thousands of records, a process only some hundred files. So of all records that a process has open to
read, those that were not read for longest let go of their files, and open them again when they are read.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgescope.errors import EdgescopeWarning, RecordError
from edgescope.faq import see
from edgescope.store import database as db
from edgescope.store import tables
from edgescope.store.checksums import damaged_rows, read_ledger, settings_checksum
from edgescope.store.opening import Checked, Opened, open_to_read

MOST_OPEN: Final = 32
"""Records that a process keeps open to read, at up to three files each; more while more are being read at once."""


class RecordReader:
    """Reads the file of a record, or of one in memory (``database``), where nothing need be checked.

    ``checked`` is what was found when the file was opened.
    """

    def __init__(self, path: Path, opened: Opened | None = None, database: sqlite3.Connection | None = None) -> None:
        self.path = path
        self.checked = Checked(db.SCHEMA, "open") if opened is None else opened.checked
        self.uses = 0
        self._opened = opened
        self._touch = opened is None or opened.touch
        self._own = database  # of the one who writes
        self._opening = threading.Lock()
        self._closed = False
        self._version = self._version_if_whole()
        if opened is not None:
            with _open_readers.used(self):
                pass

    @property
    def database(self) -> sqlite3.Connection:
        """The connection; opened anew where it was let go of."""
        if self._own is not None:
            return self._own
        with self._opening:
            if self._closed:
                raise db.record_error(sqlite3.ProgrammingError("closed"), self.path)
            if self._opened is None:
                with db.faults(self.path):
                    self._opened = open_to_read(self.path, touch=self._touch)
                for problem in self._opened.checked.problems:
                    if problem not in self.checked.problems:
                        warnings.warn(f"{self.path}: {problem} {see('damaged-files')}", EdgescopeWarning, stacklevel=2)
                self.checked = self._opened.checked
                self._version = self._version_if_whole()
            return self._opened.database

    def read_from(self, database: sqlite3.Connection) -> None:
        """Read from the connection of the writer from now on, whose rows need not be checked."""
        self.let_go()
        self._own = database

    def close(self) -> None:
        """Close the file for good: what is read from now on is refused."""
        self._closed = True
        self.let_go()

    def let_go(self) -> None:
        """Close the file, until it is read again."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def __del__(self) -> None:
        """From Python 3.13 on, a connection that is only forgotten gives a ResourceWarning."""
        opened, own = vars(self).get("_opened"), vars(self).get("_own")
        for database in (None if opened is None else opened.database, own):
            if database is not None:
                database.close()

    @contextlib.contextmanager
    def reading(
        self, *parts: str, measure: str | None = None, steps: tuple[int, int] | None = None
    ) -> Iterator[sqlite3.Connection]:
        """The connection, after the rows of these tables (or the "settings") were checked, where they must be.

        Those of ``steps`` from the first to the last, and of readings those of one ``measure``, where these are given.
        """
        with _open_readers.used(self), db.faults(self.path), tables.damaged_cells(self.path):
            database = self.database
            with db.snapshot(database):
                if not self.is_trusted():
                    for part in parts:
                        self._check(database, part, measure, steps)
                yield database

    def is_trusted(self) -> bool:
        """Whether rows need not be checked: by whoever writes them, in a file that is whole as such, or of schema 1."""
        if self._own is not None or self.checked.state == "unchecked":
            return True
        return self._version is not None and self._version == _data_version(self.database)

    def _check(
        self, database: sqlite3.Connection, part: str, measure: str | None, steps: tuple[int, int] | None
    ) -> None:
        if part == "settings":
            if settings_checksum(database) != read_ledger(database).settings:
                raise self._damaged("its configuration, status or info were altered")
            return
        of_readings = part == "reading"
        rows = damaged_rows(database, part, measure if of_readings else None, steps)
        for step, *_ in rows:
            raise self._damaged(f"what it has of step {step} ({part}) is not as it was written")

    def _version_if_whole(self) -> int | None:
        whole = self._opened is not None and self.checked.state == "whole"
        return _data_version(self._opened.database) if whole and self._opened is not None else None

    def _damaged(self, what: str) -> RecordError:
        return RecordError(f"{self.path} is damaged: {what}", hint=f"edgescope verify {self.path.parent}")


class _OpenReaders:
    """The readers of this process that have a file open, the one that was not used for longest first."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._readers: list[weakref.ref[RecordReader]] = []

    @contextlib.contextmanager
    def used(self, reader: RecordReader) -> Iterator[None]:
        """Keep this one open inside; others let go of their files where there are too many."""
        with self._guard:
            reader.uses += 1
            held = [other for ref in self._readers if (other := ref()) is not None and other is not reader]
            too_many = len(held) + 1 - MOST_OPEN
            idle = [other for other in held if not other.uses][: max(0, too_many)]
            for other in idle:
                other.let_go()
            self._readers = [weakref.ref(other) for other in held if not any(other is gone for gone in idle)]
            self._readers.append(weakref.ref(reader))
        try:
            yield
        finally:
            with self._guard:
                reader.uses -= 1


# For the whole process, as the limit on open files is one of the process.
_open_readers = _OpenReaders()


def _data_version(database: sqlite3.Connection) -> int:
    """A number that changes when another process has written to the file."""
    return int(database.execute("PRAGMA data_version").fetchone()[0])
