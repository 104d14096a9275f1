"""What the first version wrote can be read, and its records be continued."""

from __future__ import annotations

import io
import math
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from schema_one import write_checkpoint, write_record

from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, export, load_checkpoint
from edgescope.store.salvage import salvage
from edgescope.store.verify import verify


@pytest.fixture
def old(tmp_path: Path) -> Path:
    npy = io.BytesIO()
    np.save(npy, np.arange(4.0))
    write_record(tmp_path / "run", {2: npy.getvalue()})
    return tmp_path / "run"


def check(record: Record) -> None:
    table = record.table()
    assert table.columns == ["step", "measure", "part", "value", "error", "losses", "gradients", "products", "note"]
    assert table.height == 15
    assert table.row(3) == (1, "pair", "1", 1 / 3, 1e-3, 1, 2, 4, "η")
    assert table.row(5) == (1, "nothing", "", None, None, 0, 0, 0, "not today")
    assert record.costs()["products"].sum() == 25
    assert record.costs()["seconds"].sum() == 1.25
    steps, values = record.series("pair", "2")
    assert steps.tolist() == list(range(5))
    assert [math.copysign(1, value) for value in values[:3]] == [-1, -1, -1]
    assert math.isnan(values[3])
    assert record.wide().columns == ["step", "pair/1", "pair/2", "nothing"]
    assert record.array(2, "pair").tolist() == [0, 1, 2, 3]
    assert record.config == {"lr": 0.1}
    assert record.info == {"torch": "2.9", "seconds": 3.5}
    assert record.events()["step"].to_list() == [0, 1, 2, 3, 4]
    assert record.last_step == 4


def test_a_record_is_read_as_it_is(old: Path, tmp_path: Path) -> None:
    before = (old / "record.sqlite").read_bytes()
    with Record.open(old) as record:
        check(record)
        assert record.state == record.status == "interrupted"
    with salvage(old) as record:
        check(record)
    assert pl.read_csv(export(old, "csv", tmp_path / "x.csv")).height == 15
    assert [(one.verdict, one.wrong) for one in verify(old)] == [("unchecked", "")]
    assert (old / "record.sqlite").read_bytes() == before


def test_a_record_is_continued_with_checksums(old: Path) -> None:
    with Record.open(old) as record:
        before = record.fingerprint()
        record.claim()
        assert record.fingerprint() == before
        check(record)
    with Record.resume(old) as record:
        assert record.status == "running"
        record.append(4, [Reading("pair", {"1": 7.0})])
        record.append(5, [Reading("pair", {"1": 8.0})])
        record.set_status("finished")
    with Record.open(old) as record:
        assert record.series("pair", "1")[1].tolist() == [0, 1 / 3, 2 / 3, 1, 7, 8]
    assert [one.verdict for one in verify(old)] == ["whole"]


def test_a_continuation_that_fails_leaves_it_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(database: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr("edgescope.store.upgrade.settings_checksum", interrupted)
    with Record.open(old) as record:
        with pytest.raises(RecordError):
            record.claim()
        check(record)
    monkeypatch.undo()
    assert [one.verdict for one in verify(old)] == ["unchecked"]
    assert [path.name for path in old.iterdir()] == ["record.sqlite"]


@pytest.mark.parametrize(
    ("change", "ask"),
    [
        ("UPDATE meta SET value = '{broken'", lambda record: record.config),
        ("UPDATE info SET value = x'ff'", lambda record: record.info),
        ("UPDATE info SET value = char(255) || '\"'", lambda record: record.info),
        ("UPDATE value SET value = 'nbn'", lambda record: record.table()),
        ("UPDATE value SET value = 'nbn'", lambda record: record.series("pair", "1")),
        ("UPDATE value SET part = CAST(x'ff' AS TEXT)", lambda record: record.table()),
        ("UPDATE timing SET losses = 'many'", lambda record: record.costs()),
        ("UPDATE array SET npy = x'934e554d5059'", lambda record: record.array(2, "pair")),
        ("UPDATE array SET npy = substr(npy, 1, 140)", lambda record: record.array(2, "pair")),
        ("UPDATE event SET time = x'ff'", lambda record: record.events()),
    ],
)
def test_cells_that_cannot_be_read_are_one_line(old: Path, change: str, ask) -> None:  # type: ignore[no-untyped-def]
    other = sqlite3.connect(old / "record.sqlite")
    other.execute(change)
    other.commit()
    other.close()
    with Record.open(old) as record, pytest.raises(RecordError, match=r"record\.sqlite is damaged") as caught:
        ask(record)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_read_and_said_to_be_unchecked(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 3, {"w": torch.arange(40.0)})
    found = load_checkpoint(path)
    assert (found.step, found.meta, found.checked) == (3, {"epoch": 3}, False)
    assert torch.equal(found.tensors["w"], torch.arange(40.0))
    assert [one.verdict for one in verify(tmp_path)] == ["unchecked"]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="tensor 'w' was altered"):
        load_checkpoint(path)
    assert [one.verdict for one in verify(tmp_path)] == ["damaged"]
