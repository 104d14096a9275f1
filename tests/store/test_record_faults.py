"""Broken files, full disks and locks: one clear line each, and what was committed is kept."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, creation, database


def reading(step: int) -> Reading:
    return Reading("m", {"": float(step)}, arrays={"": np.full(500, step, dtype=np.float64)})


def fault(action, *arguments) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(RecordError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with Record.create(tmp_path / "run") as record:
        for step in range(20):
            record.append(step, [reading(step)])
    return tmp_path / "run"


def test_missing(tmp_path: Path) -> None:
    assert "contains no record" in fault(Record.open, tmp_path)
    assert "contains no record" in fault(Record.open, tmp_path / "nowhere")
    (tmp_path / "record.sqlite").mkdir()
    assert "contains no record" in fault(Record.open, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.7" + bytes(5000), b"SQLite format 3\0" + b"\xff" * 4080])
def test_foreign_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.sqlite").write_bytes(content)
    message = fault(Record.open, tmp_path)
    assert "is not a record" in message or "is damaged" in message
    assert (tmp_path / "record.sqlite").read_bytes() == content


def test_a_database_of_something_else(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "record.sqlite")
    other.execute("CREATE TABLE reading (x)")
    other.close()
    assert "is not a record of Edgescope" in fault(Record.open, tmp_path)


def test_damaged_pages_and_truncation(written: Path) -> None:
    path = written / "record.sqlite"
    whole = path.read_bytes()
    assert len(whole) > 20 * 4000
    path.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in fault(Record.open, written)
    path.write_bytes(whole[:4096] + b"\x5a" * 8192 + whole[4096 + 8192 :])
    assert "is damaged" in fault(Record.open, written)
    path.write_bytes(whole)
    with Record.open(written) as record:
        assert record.last_step == 19


def test_a_newer_schema_says_what_to_do(written: Path) -> None:
    other = sqlite3.connect(written / "record.sqlite")
    other.execute(f"PRAGMA user_version = {database.SCHEMA + 1}")
    other.close()
    message = fault(Record.open, written)
    assert f"newer Edgescope (schema {database.SCHEMA + 1})" in message
    assert "pip install --upgrade edgescope" in message


def test_a_full_disk_keeps_what_was_committed(written: Path) -> None:
    with Record.open(written) as record:
        record.claim()
        # SQLite itself refuses to grow the file, by the same code as when the system has no space left.
        record._database.execute("PRAGMA max_page_count = 1")
        before = record.fingerprint()
        message = fault(record.append, 20, [reading(20)])
        assert "the disk is full" in message
        assert "what was committed before is kept" in message
        assert "--resume" in message
        assert record.fingerprint() == before
        record._database.execute("PRAGMA max_page_count = 100000")
        record.append(20, [reading(20)])
    with Record.open(written) as record:
        assert record.series("m")[1].tolist() == [float(step) for step in range(21)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_codes_of_a_full_disk(number: int) -> None:
    assert "the disk is full" in str(database.record_error(OSError(number, "x"), Path("a")))


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    message = fault(Record.create, tmp_path / "file" / "run")
    assert "cannot read or write" in message
    assert str(tmp_path / "file" / "run") in message


def test_a_record_that_may_only_be_read(written: Path) -> None:
    with Record.open(written) as record:
        record.claim()
        record._database.execute("PRAGMA query_only = ON")  # what a read-only file answers, also for root
        assert "cannot read or write" in fault(record.append, 20, [reading(20)])
        assert record.last_step == 19


def test_a_lock_of_another_program_is_waited_for_only_shortly(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(written / "record.sqlite", isolation_level=None)
    with Record.open(written) as record:
        record.claim()
        other.execute("BEGIN IMMEDIATE")
        assert "locked by another process" in fault(record.append, 20, [reading(20)])
        assert record.last_step == 19
        other.execute("ROLLBACK")
        record.append(20, [reading(20)])
        assert record.last_step == 20
    other.close()


def test_a_closed_record(written: Path) -> None:
    record = Record.open(written)
    record.close()
    assert "closed" in fault(record.append, 20, [reading(20)])
    assert "closed" in fault(record.table)


def test_a_creation_that_fails_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(connection: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(creation, "lay_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Record.create(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with Record.create(tmp_path) as record:
        assert record.last_step is None
    assert [path.name for path in tmp_path.iterdir()] == ["record.sqlite"]


@pytest.mark.parametrize("error", [sqlite3.DatabaseError("malformed"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")])
def test_a_file_that_cannot_be_opened_is_let_go_of(
    error: Exception, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stayed open would keep SQLite's index of the log, and the next reader would go by that."""
    made: list[sqlite3.Connection] = []

    class Failing(sqlite3.Connection):
        def execute(self, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
            made.append(self)
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
    with pytest.raises(RecordError, match="damaged"):
        Record.open(written)
    monkeypatch.undo()
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            sqlite3.Connection.execute(connection, "SELECT 1")
