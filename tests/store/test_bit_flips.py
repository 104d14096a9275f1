"""Every flipped bit of a closed record and of a checkpoint is seen; of a record under way, whatever it changes."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgescope.cost import Cost
from edgescope.errors import EdgescopeWarning, RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, latest_checkpoint, load_checkpoint, save_checkpoint
from edgescope.store import lock as locks
from edgescope.store.verify import verify, verify_checkpoint, verify_record

FLIPS = [60, pytest.param(400, marks=pytest.mark.slow)]


def fill(record: Record, steps: range) -> None:
    for step in steps:
        values = {"1": 40.0 / (step + 1), "2": float("nan"), "10": -0.0}
        eigenvalues = Reading(
            "eigenvalues", values, {"1": 1e-3}, {"v": np.arange(step, dtype=np.float32)}, Cost(1, 2, 3)
        )
        record.append(
            step, [Reading("loss", {"": 1.0 / (step + 1)}, seconds=0.5), eigenvalues], [("stopped", str(step))]
        )
    record.note(3, "resumed", "from step 3")
    record.set_info("seconds", 12.5)


def everything(folder: Path) -> list[Any]:
    """All that a record holds, read once."""
    with Record.open(folder) as record:
        found = [record.config, record.info, record.status, record.last_step, record.fingerprint()]
        tables = [record.table(), record.costs(), record.events(), record.wide()]
        found += [str(table.rows()) for table in tables]
        found += [record.series("loss")[1].tobytes(), record.array(7, "eigenvalues", "v").tobytes()]
        return found


def read(folder: Path) -> tuple[str, list[Any] | None]:
    """What reading all of a record says (an error, warnings, or nothing), and what was read in spite of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = everything(folder)
        except RecordError as error:
            words = str(error)
            found = None
    if found is None:
        assert "\n" not in words
        return words, None
    assert all(issubclass(warning.category, EdgescopeWarning) for warning in caught)
    return "; ".join(str(warning.message) for warning in caught), found


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    with Record.create(tmp_path / "run", config={"lr": 0.1, "name": "η"}, command="") as record:
        fill(record, range(20))
        record.set_status("finished")
    return tmp_path / "run"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A record as a killed process leaves it: part of it in the log, and the lock."""
    with Record.create(tmp_path / "living", config={"lr": 0.1}, command="") as record:
        fill(record, range(12))
        record._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        fill(record, range(8, 20))
        shutil.copytree(tmp_path / "living", tmp_path / "run")
    owner, _, line = (tmp_path / "run" / locks.FILE).read_bytes().partition(b"\n")
    owner = json.dumps(json.loads(owner) | {"start": "1"}).encode() + b"\n"
    (tmp_path / "run" / locks.FILE).write_bytes(owner + locks._line(owner, int(line.split()[0])))
    return tmp_path / "run"


@pytest.mark.parametrize("flips", FLIPS)
def test_no_flipped_bit_of_a_closed_record_is_silent(closed: Path, flips: int) -> None:
    path, chance = closed / "record.sqlite", random.Random(0)
    whole, reference = path.read_bytes(), everything(closed)
    assert verify_record(path).verdict == "whole"
    unused = 0
    for limit in (800, 8 * len(whole)):  # in the header of SQLite, and anywhere
        for _ in range(flips // 2):
            path.write_bytes(flipped(whole, bit := chance.randrange(limit)))
            words, found = read(closed)
            assert words, f"bit {bit} of the record was not seen"
            assert found in (None, reference), bit  # nobody who ignores warnings reads another value
            assert verify_record(path).verdict == "damaged", bit
            unused += found is not None
    assert 0 < unused < flips  # bits that nothing is stored in are seen too
    path.write_bytes(whole)
    assert read(closed) == ("", reference)


@pytest.mark.parametrize("flips", FLIPS)
def test_no_flipped_bit_of_a_killed_record_changes_what_is_read(killed: Path, flips: int) -> None:
    chance, reference = random.Random(1), everything(killed)
    assert read(killed)[0] == ""
    told = 0
    for name in ("record.sqlite", "record.sqlite-wal", locks.FILE):
        path = killed / name
        whole = path.read_bytes()
        for _ in range(flips // 3):
            path.write_bytes(flipped(whole, bit := chance.randrange(8 * len(whole))))
            words, found = read(killed)
            told += bool(words)
            assert words or found == reference, f"bit {bit} of {name}"
            verdict = verify_record(killed / "record.sqlite")
            assert bool(words) == (verdict.verdict == "damaged"), (name, bit, words, verdict)
        path.write_bytes(whole)
    assert told > flips // 4


def test_commits_that_a_damaged_log_loses_are_told(killed: Path) -> None:
    log = killed / "record.sqlite-wal"
    whole = log.read_bytes()
    for bit, lost in ((8 * 40, "14"), (8 * (len(whole) - 30), "1")):
        log.write_bytes(flipped(whole, bit))
        with pytest.warns(EdgescopeWarning, match=rf"its last {lost} commits are lost"):
            Record.open(killed).close()
    log.write_bytes(whole[:-5])
    found = verify_record(killed / "record.sqlite")
    assert (found.verdict, found.wrong) == (
        "damaged",
        "its last 1 commits are lost: the log was damaged, or the power failed",
    )
    with pytest.warns(EdgescopeWarning, match="its last 1 commits are lost"):
        record = Record.resume(killed)
    with record:
        (event,) = record.events().filter(kind="damage")["text"]
    assert "its last 1 commits are lost" in event
    assert read(killed)[0] == ""  # once it was told, and closed, the record is whole


@pytest.mark.parametrize("flips", FLIPS)
def test_no_flipped_bit_of_a_checkpoint_is_silent(tmp_path: Path, flips: int) -> None:
    tensors = {"w": torch.arange(300.0), "tied": torch.ones(3, 2, dtype=torch.float64)}
    save_checkpoint(tmp_path, 1, tensors, {})
    path = save_checkpoint(tmp_path, 2, tensors, {"momentum": 0.9, "nested": [None, "η" * 200]})
    whole, chance = path.read_bytes(), random.Random(2)
    header = 8 * (8 + int.from_bytes(whole[:8], "little"))
    assert load_checkpoint(path).checked
    for bit in [*range(64), *(chance.randrange(limit) for limit in [header, 8 * len(whole)] * (flips // 2))]:
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(RecordError) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
        assert verify_checkpoint(path).verdict == "damaged"
    with pytest.warns(EdgescopeWarning, match="step-0000000001.* was taken instead"):
        assert latest_checkpoint(tmp_path).step == 1  # type: ignore[union-attr]


def test_rows_that_vanish_or_are_put_there_are_told(closed: Path) -> None:
    import sqlite3

    for change in (
        "DELETE FROM reading WHERE step = 5",
        "DELETE FROM step WHERE step = 5",
        "DELETE FROM value WHERE step = 5",
        "DELETE FROM array WHERE step = 5",
        "DELETE FROM event WHERE step = 5",
        "DELETE FROM info WHERE key = 'torch'",
        "DELETE FROM ledger",
        "DELETE FROM seal",
        "INSERT INTO event VALUES (5, 'kind', 'text', 1, '', 17)",
        "INSERT INTO info VALUES ('more', '1')",
        "UPDATE meta SET value = 'diverged' WHERE key = 'status'",
        "UPDATE meta SET value = '{broken' WHERE key = 'config'",
        "UPDATE reading SET products = products + 1 WHERE step = 5",
        "UPDATE value SET error = NULL WHERE step = 5",
        "UPDATE value SET value = 'nan' WHERE step = 5 AND position = 0",
        "UPDATE value SET position = position + 7 WHERE step = 5",
        "UPDATE array SET npy = x'00' WHERE step = 5",
        "DROP TABLE array",
        "ALTER TABLE reading RENAME COLUMN note TO notes",
        "PRAGMA user_version = 0",
    ):
        folder = closed.parent / "changed"
        shutil.copytree(closed, folder)
        other = sqlite3.connect(folder / "record.sqlite")
        other.execute(change)
        other.commit()
        other.close()
        words, found = read(folder)
        assert words, change
        assert found is None, change
        assert [one.verdict for one in verify(folder)] == ["damaged"]
        shutil.rmtree(folder)
