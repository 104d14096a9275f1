"""Records with many readings: read in pieces, one measure by itself, with memory for some rows at a time."""

from __future__ import annotations

import itertools
import math
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from edgescope.cost import Cost
from edgescope.errors import RecordError, UnknownNameError
from edgescope.measures.reading import Reading
from edgescope.store import Record
from edgescope.store import database as db
from edgescope.store.appending import cells_of, write_step


def readings(step: int) -> list[Reading]:
    """Of several measures, some without values, some with more parts from time to time."""
    found = [Reading("loss", {"train": math.nan if step % 11 == 3 else 1 / (1 + step), "test": -0.0})]
    if step % 3 == 0:
        found.append(Reading("norms", {f"l{i}": float(step * i) for i in range(step % 7)}, cost=Cost(losses=2)))
    if step % 5 == 0:
        found.append(Reading("spectrum", {}, arrays={"nodes": np.arange(3.0)}, note="not today"))
    return [*found, Reading("ratio", {"": math.inf if step == 8 else step / 2})]


def write(folder: Path, steps: int, gap: int = 1) -> None:
    """Many steps in one transaction, as no run writes them, since that takes a thousandth of the time."""
    with Record.create(folder) as record, record._writing() as work:
        for step in range(0, steps * gap, gap):
            write_step(work, step, cells_of(step, readings(step)), add=False)


@pytest.fixture(params=[0, 10**9], ids=["indexed", "plain"])
def indexed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(db, "INDEXED_FROM", request.param)
    return bool(request.param == 0)


def has_index(folder: Path) -> bool:
    database = sqlite3.connect(folder / "record.sqlite")
    found = database.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql = ?", (INDEX,)).fetchone()
    database.close()
    return bool(found[0])


INDEX = db.INDEX.replace("IF NOT EXISTS ", "")


@pytest.mark.parametrize("rows", [1, 7, 100, 10**6])
@pytest.mark.parametrize("gap", [1, 1000])
def test_pieces_are_the_table(tmp_path: Path, rows: int, gap: int) -> None:
    write(tmp_path, 50, gap)
    with Record.open(tmp_path) as record:
        table = record.table()
        pieces = list(record.pieces(rows=rows))
        assert_frame_equal(pl.concat(pieces), table, check_exact=True)
        for piece, later in itertools.pairwise(pieces):
            assert piece["step"].max() < later["step"].min()  # type: ignore[operator]
        chosen = table.filter(pl.col("measure").is_in(["norms", "spectrum"]))
        assert_frame_equal(pl.concat(record.pieces("norms", "spectrum", rows=rows)), chosen, check_exact=True)
        assert_frame_equal(record.table("norms", "spectrum"), chosen, check_exact=True)
        assert record.table("nothing").is_empty()


def test_pieces_of_a_record_without_readings(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        assert list(record.pieces()) == []
        record.append(0, [])
        assert list(record.pieces()) == []


def test_pieces_go_on_while_the_record_grows(tmp_path: Path) -> None:
    with Record.create(tmp_path) as writer:
        for step in range(10):
            writer.append(step, [Reading("loss", {"": float(step)})])
        with Record.open(tmp_path) as record:
            seen = []
            for piece in record.pieces(rows=4):
                seen += piece["step"].to_list()
                if writer.last_step < 12:  # type: ignore[operator]
                    writer.append(len(seen) + 8, [Reading("loss", {"": 0.0})])
    assert seen == sorted(set(seen))
    assert set(range(10)) <= set(seen)


def test_a_damaged_row_is_found_in_its_piece(tmp_path: Path) -> None:
    write(tmp_path, 40)
    database = sqlite3.connect(tmp_path / "record.sqlite")
    with database:
        database.execute("UPDATE value SET value = 0.5 WHERE step = 30 AND part = 'train'")
    database.close()
    with pytest.warns(UserWarning, match="altered"):
        record = Record.open(tmp_path)
    with record:
        pieces = record.pieces(rows=10)
        assert next(pieces)["step"].max() < 30  # type: ignore[operator]
        with pytest.raises(RecordError, match="step 30"):
            list(pieces)


def test_one_measure_is_the_same_with_an_index_and_without(tmp_path: Path, indexed: bool) -> None:
    write(tmp_path, 60)
    assert has_index(tmp_path) == indexed
    with Record.open(tmp_path) as record:
        table = record.table()
        for measure, part in (("loss", "train"), ("loss", "test"), ("norms", "l4"), ("ratio", ""), ("spectrum", "")):
            rows = table.filter(measure=measure, part=part).drop_nulls("value")
            steps, values = record.series(measure, part)
            np.testing.assert_array_equal(steps, rows["step"].to_numpy())
            np.testing.assert_array_equal(values, rows["value"].to_numpy())
        assert record.series("norms", "l99")[0].size == 0
        with pytest.raises(UnknownNameError, match=r"no measure 'los'.*try 'loss'"):
            record.series("los")
        assert record.array(5, "spectrum", "nodes").tolist() == [0.0, 1.0, 2.0]


def plans_of(record: Record) -> list[str]:
    """How SQLite finds the rows of one measure."""
    statements: list[str] = []
    record._database.set_trace_callback(statements.append)
    record.series("ratio")
    record._database.set_trace_callback(None)
    series = next(s for s in statements if s.startswith("SELECT step, value FROM reading"))
    return [row[3] for row in record._database.execute(f"EXPLAIN QUERY PLAN {series}")]


def test_one_measure_reads_its_own_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "INDEXED_FROM", 0)
    write(tmp_path, 60)
    with Record.open(tmp_path) as record:
        assert any("reading_of_measure" in line for line in plans_of(record))


def test_an_index_that_no_digest_covers_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "INDEXED_FROM", 0)
    write(tmp_path, 60)
    with Record.open(tmp_path) as writer:
        writer.append(60, [Reading("ratio", {"": 1.0})])
        with Record.open(tmp_path) as record:
            assert not any("reading_of_measure" in line for line in plans_of(record))
            assert record.series("ratio")[0][-1] == 60
        files = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "record.lock"}
    killed = tmp_path / "killed"
    killed.mkdir()
    for name, content in files.items():
        (killed / name).write_bytes(content)
    assert has_index(killed)
    with Record.open(killed) as record:
        assert not any("reading_of_measure" in line for line in plans_of(record))
        record.claim()
        assert not has_index(killed)
        assert record.series("ratio")[0].size == 61
    assert has_index(killed)
    assert has_index(tmp_path)


def test_a_record_with_an_index_goes_on_as_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = []
    for name, least in (("with", 0), ("without", 10**9)):
        monkeypatch.setattr(db, "INDEXED_FROM", least)
        write(tmp_path / name, 20)
        with Record.open(tmp_path / name) as record:
            record.append(7, [Reading("loss", {"train": 2.0})])  # in place of what it had
            assert record.remove_after(15) == 4
        with Record.open(tmp_path / name) as record:
            assert record.series("ratio")[0].tolist() == [step for step in range(16) if step != 7]
            fingerprints.append(record.fingerprint())
    assert fingerprints[0] == fingerprints[1]


def test_few_rows_are_python_objects_at_a_time(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record, record._writing() as work:
        for step in range(30_000):
            cells = cells_of(step, [Reading("loss", {"": float(step)}), Reading("ratio", {"": 1.0})])
            write_step(work, step, cells, add=False)
    with Record.open(tmp_path) as record:
        for read in (
            record.table,
            record.costs,
            lambda: record.series("loss"),
            lambda: sum(1 for _ in record.pieces()),
        ):
            tracemalloc.start()
            read()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 16e6  # 60,000 rows at once take 40 MB


def test_wide_reads_what_is_named(tmp_path: Path) -> None:
    write(tmp_path, 30)
    with Record.open(tmp_path) as record:
        everything = record.wide()
        assert_frame_equal(record.wide("ratio"), everything.select("step", "ratio"), check_exact=True)
        both = record.wide("loss/test", "norms").columns
        assert both == ["step", "loss/test", *(f"norms/l{i}" for i in range(6))]
        with pytest.raises(UnknownNameError, match=r"no measure 'norm' in.*one of loss, norms, ratio, spectrum"):
            record.wide("norm")
