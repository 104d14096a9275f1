"""Records that somebody else made: nothing in the database runs, and what is no number is one line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edgescope.errors import EdgescopeWarning, RecordError
from edgescope.measures import Reading
from edgescope.store import Record

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Record.create(tmp_path / "a") as record:
        record.append(0, [Reading("loss", {"train": 1.0})])
    return tmp_path / "a"


def change(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "record.sqlite") as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TABLE step", f"CREATE VIEW step AS {ENDLESS} SELECT i AS step FROM n"),
        ("CREATE VIEW more AS SELECT 1",),
        ("CREATE TRIGGER t AFTER INSERT ON step BEGIN DELETE FROM meta; END",),
        (f"CREATE TRIGGER t AFTER INSERT ON event BEGIN INSERT INTO step {ENDLESS} SELECT max(i) FROM n; END",),
        ("CREATE VIRTUAL TABLE words USING fts5(a)",),
    ],
)
def test_a_database_that_runs_something_is_refused(folder: Path, statements: tuple[str, ...]) -> None:
    with Record.open(folder):
        pass
    change(folder, *statements)
    # One whose rows never end would stay here until the tests' own limit.
    with pytest.raises(RecordError, match=r"is damaged or no record \(it holds a \w+ that no record has\)"):
        Record.open(folder)


@pytest.mark.parametrize("value", ["'text'", "x'00ff'", "''"])
def test_a_value_that_is_no_number_is_one_line(folder: Path, value: str) -> None:
    change(folder, f"UPDATE value SET value = {value}")
    with pytest.warns(EdgescopeWarning, match="it was altered since it was closed"):
        record = Record.open(folder)
    with record:
        for read in (record.table, lambda: record.series("loss", "train")):
            with pytest.raises(RecordError, match=r"record\.sqlite is damaged"):
                read()
