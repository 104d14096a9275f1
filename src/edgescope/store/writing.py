"""Writing to a record: the lock that it takes, the connection, the transactions with their ledger, and the seal."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edgescope.errors import RecordError
from edgescope.store import database as db
from edgescope.store.checksums import (
    CHECKED,
    UPDATE_LEDGER,
    Ledger,
    damaged_rows,
    read_ledger,
    row_checksum,
    settings_checksum,
)
from edgescope.store.lock import RunLock
from edgescope.store.opening import Checked, check_record
from edgescope.store.seal import put_on, read_mark, take_off
from edgescope.store.upgrade import upgrade

READERS_SECONDS: Final = 0.5
"""For which closing waits for those who are reading, before it leaves the record without its seal."""

_INSERT: Final = [f"INSERT INTO {{}} VALUES ({', '.join('?' * width)})" for width in range(10)]


class Writer:
    """The one writer of a record. ``problems`` are what was found wrong with it, and does not keep it from going on.

    ``database`` is its connection. In memory there are neither lock nor seal.
    """

    def __init__(self, database: sqlite3.Connection, lock: RunLock | None = None) -> None:
        self.database = database
        self.problems: tuple[str, ...] = ()
        self._ledger: Ledger | None = None
        self._sealed = False  # when it was opened
        self._lock = lock
        self._pid = os.getpid()

    @classmethod
    def of(cls, path: Path, lock: RunLock | None = None, fresh: bool = False) -> Writer:
        """Begin to write to the record ``path``, of which all is checked first unless it is ``fresh``.

        Takes the lock of its folder, or the ``lock`` that was taken already. Raises :class:`RecordError` where another
        process writes to it, where it is damaged, or cannot be written.
        """
        if path.is_symlink():
            raise RecordError(f"{path} is a symbolic link, which is not written to", hint="a copy of the run")
        if lock is None:
            lock = RunLock(path.parent)
        database = None
        try:
            with db.faults(path):
                database = db.connect(path, "mode=rw")
                writer = cls(database, lock)
                if not fresh:
                    checked = writer._check(path)
                    writer.problems, writer._sealed = checked.problems, checked.state == "whole"
                    with db.transaction(database):
                        if not writer._sealed:
                            database.execute(db.NO_INDEX)
                        upgrade(database)
                        take_off(database)
                # Not before: that changes the file, whose seal would no longer hold.
                database.execute("PRAGMA journal_mode = WAL")
                writer._note_what_was_found()
            return writer
        except BaseException:
            if database is not None:
                database.close()
            lock.release()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All of the block or nothing of it, with the ledger."""
        if self._lock is not None:
            self._lock.check()
        if self._ledger is None:
            self._ledger = read_ledger(self.database)
        with db.transaction(self.database):
            work = Transaction(self.database, self._ledger)
            yield work
            settings = settings_checksum(self.database) if work.settings_changed else self._ledger.settings
            ledger = Ledger(self._ledger.commits + 1, work.rows, work.total, settings)
            self.database.execute(UPDATE_LEDGER, ledger.row())
        self._ledger = ledger
        if self._lock is not None:
            self._lock.committed(ledger.commits)

    def close(self, path: Path) -> None:
        """Fold the log into the one file, seal it, and let others write."""
        if self._pid != os.getpid():
            return  # a fork of the process that writes
        mark = None
        if self._lock is not None:
            with contextlib.suppress(sqlite3.Error):  # a record can do without
                if self.database.execute("SELECT count(*) FROM reading").fetchone()[0] >= db.INDEXED_FROM:
                    self.database.execute(db.INDEX)
        # Where folding fails (full disk, a reader that stays) the log stays beside the file, nothing is lost, and the
        # record is not sealed.
        with contextlib.suppress(sqlite3.Error):
            _, frames, _ = self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.database.execute("PRAGMA synchronous = OFF")  # two bytes of a page that sealing flushes in any case
            if frames == 0 and self._left_log():
                mark = read_mark(self.database)
        self.database.close()
        if self._lock is None:
            return
        if mark is not None:
            with contextlib.suppress(OSError):
                put_on(path, mark)
        self._lock.release()

    def _left_log(self) -> bool:
        """Go over to a mode without a log, after a moment for those who have the file open; whether that was done."""
        end = time.monotonic() + READERS_SECONDS
        while True:
            with contextlib.suppress(sqlite3.OperationalError):  # locked
                if self.database.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete":
                    return True
            if time.monotonic() > end:
                return False
            time.sleep(0.01)

    def release(self) -> None:
        """Let others write, where nobody has closed the record."""
        if self._lock is not None:
            self._lock.release()

    def _check(self, path: Path) -> Checked:
        """Check all of the record; what is damaged cannot be continued."""
        assert self._lock is not None
        checked = check_record(self.database, path, self._lock.stale)
        if checked.state in ("open", "altered"):
            with db.snapshot(self.database):
                for table in CHECKED:
                    for step, *_ in damaged_rows(self.database, table):
                        raise RecordError(
                            f"{path} is damaged: step {step} is not as it was written",
                            expected="an undamaged record to continue",
                            hint=f"edgescope verify {path.parent}",
                        )
        return checked

    def _note_what_was_found(self) -> None:
        found = [("damage", problem) for problem in self.problems]
        if self._lock is not None and self._lock.stale is not None:
            found.append(("lock", f"taken over from {self._lock.stale}, which has ended"))
        if found:
            with self.transaction() as work:
                (step,) = self.database.execute("SELECT ifnull(max(step), 0) FROM step").fetchone()
                for kind, text in found:
                    work.add_event(step, kind, text, noted=True)


class Transaction:
    """One transaction of a writer: its connection, and what its ledger is to count (see :class:`Ledger`)."""

    def __init__(self, database: sqlite3.Connection, ledger: Ledger) -> None:
        self.database = database
        self.rows, self.total = ledger.rows, ledger.total
        self.settings_changed = False

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows to a table; of a checked one, with their checksums last."""
        if rows:
            self.database.executemany(_INSERT[len(rows[0])].format(table), rows)
            if table in CHECKED:
                self.rows += len(rows)
                self.total += sum([row[-1] for row in rows])

    def delete(self, table: str, where: str, arguments: tuple[Any, ...]) -> None:
        """Remove the rows of a table for which ``where`` holds."""
        if table in CHECKED:
            for (checksum,) in self.database.execute(f"SELECT checksum FROM {table} WHERE {where}", arguments):
                self.rows, self.total = self.rows - 1, self.total - checksum
        self.database.execute(f"DELETE FROM {table} WHERE {where}", arguments)

    def set(self, table: str, key: str, value: str) -> None:
        """Add a setting (``meta`` or ``info``), or replace it."""
        self.database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, value))
        self.settings_changed = True

    def add_event(self, step: int, kind: str, text: str, noted: bool) -> None:
        """Add an event that happened now, unless there is the same already."""
        row = (step, kind, text, int(noted), now())
        done = self.database.execute(
            "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?)", (*row, checksum := row_checksum(*row))
        )
        if done.rowcount:
            self.rows, self.total = self.rows + 1, self.total + checksum


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
