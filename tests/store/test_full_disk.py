"""On a full disk: one line that says so, nothing half, and what was committed is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_disk import small_disk

from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, export, latest_checkpoint, save_checkpoint
from edgescope.store.verify import verify


def reading(step: int) -> Reading:
    return Reading("m", {"": float(step)}, arrays={"": np.full(500, step, dtype=np.float64)})


def told(error: RecordError) -> bool:
    """Whether a line says that the disk is full (or, where only files are limited, that one is too large)."""
    line = str(error)
    assert "\n" not in line
    return "the disk is full while writing" in line or "File too large" in line or "disk I/O error" in line


def test_a_record_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    made = 0
    for kib in range(4, 132, 4):
        place = tmp_path / f"disk{kib}"
        with small_disk(place, kib) as lift:
            fault = None
            try:
                Record.create(place / "run", config={"lr": 0.1}, command="").close()
            except RecordError as error:
                fault = error
            if fault is not None:
                assert told(fault), fault
                lift()
                assert not (place / "run").exists(), kib
                Record.create(place / "run", command="").close()
                continue
            made += 1
            lift()
            with Record.open(place / "run") as record:
                assert record.config == {"lr": 0.1}
            assert [one.verdict for one in verify(place)] == ["whole"]
    assert 3 < made < 31


@pytest.mark.parametrize("kib", [190, 213, 260, 333])
def test_what_was_appended_before_the_disk_was_full_is_kept(tmp_path: Path, kib: int) -> None:
    with small_disk(tmp_path / "disk", kib) as lift:
        folder, committed = tmp_path / "disk" / "run", -1
        fault = None
        with Record.create(folder, command="") as record:
            while fault is None and committed < 1000:
                try:
                    record.append(committed + 1, [reading(committed + 1)], [("stopped", str(committed + 1))])
                    committed += 1
                except RecordError as error:
                    fault = error
        assert fault is not None
        assert told(fault)
        assert "what was committed before is kept" in str(fault)
        assert committed > 0
        with Record.open(folder) as record:  # while the disk is still full
            assert record.last_step == committed
            assert record.series("m")[1].tolist() == [float(step) for step in range(committed + 1)]
        lift()
        with Record.resume(folder) as record:
            record.append(committed + 1, [reading(committed + 1)])
            record.set_status("finished")
        with Record.open(folder) as record:
            steps, values = record.series("m")
            assert values.tolist() == steps.tolist() == list(range(committed + 2))
        assert [one.verdict for one in verify(folder)] == ["whole"]


def test_a_failed_write_is_remembered_until_one_succeeds(tmp_path: Path) -> None:
    with Record.create(tmp_path, command="") as record:
        record._database.execute("PRAGMA max_page_count = 1")
        for _ in range(2):
            with pytest.raises(RecordError, match="the disk is full"):
                record.append(0, [reading(0)])
            assert "the disk is full" in str(record.fault)
        record._database.execute("PRAGMA max_page_count = 100000")
        record.append(0, [reading(0)])
        assert record.fault is None


def test_a_checkpoint_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    for kib in (16, 48, 80):
        place = tmp_path / f"disk{kib}"
        with small_disk(place, kib) as lift:
            save_checkpoint(place, 1, {"w": torch.ones(100)}, {})
            with pytest.raises(RecordError) as caught:
                save_checkpoint(place, 2, {"w": torch.ones(30_000)}, {})
            assert told(caught.value)
            assert [path.name for path in (place / "checkpoints").iterdir()] == ["step-0000000001.safetensors"]
            assert latest_checkpoint(place).step == 1  # type: ignore[union-attr]
            lift()
            save_checkpoint(place, 2, {"w": torch.ones(30_000)}, {})
            assert latest_checkpoint(place).step == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path, to: str) -> None:
    with Record.create(tmp_path / "run", command="") as record:
        for step in range(200):
            record.append(
                step, [Reading(f"m{i}", {"": np.random.default_rng(9 * step + i).random()}) for i in range(9)]
            )
    with small_disk(tmp_path / "disk", 8) as lift:
        (tmp_path / "disk" / "x").mkdir()
        with pytest.raises(RecordError) as caught:
            export(tmp_path / "run", to, tmp_path / "disk" / "x" / "out")
        assert told(caught.value)
        assert not [path for path in (tmp_path / "disk").rglob("*") if path.is_file()]
        lift()
        export(tmp_path / "run", to, tmp_path / "disk" / "x" / "out")
