"""Reading needs no right to write: on read-only file systems, beside a full disk, with a log left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_disk import read_only, small_disk

from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, export
from edgescope.store import lock as locks
from edgescope.store import opening as openings
from edgescope.store.opening import open_to_read
from edgescope.store.verify import verify


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, close: bool = True, steps: int = 30) -> Record:
    record = Record.create(folder, config={"lr": 0.1}, command="")
    for step in range(steps):
        record.append(step, [Reading("loss", {"": 1.0 / (step + 1)})])
    if close:
        record.set_status("finished")
        record.close()
    return record


def leave(folder: Path, place: Path) -> None:
    """In ``place`` what the process that writes ``folder`` would leave if it were killed now."""
    shutil.copytree(folder, place)
    owner, _, line = (place / locks.FILE).read_bytes().partition(b"\n")
    owner = json.dumps(json.loads(owner) | {"start": "1"}).encode() + b"\n"
    (place / locks.FILE).write_bytes(owner + locks._line(owner, int(line.split()[0])))


def check(folder: Path, out: Path, state: str) -> None:
    with Record.open(folder) as record:
        assert record.series("loss")[1].tolist() == [1.0 / (step + 1) for step in range(30)]
        assert record.state == state
    export(folder, "csv", out / "x.csv")
    assert [one.verdict for one in verify(folder)] == ["whole"]


def append_to(folder: Path) -> None:
    with Record.open(folder) as record:
        record.append(99, [])


def refused(write: Callable[[], object]) -> None:
    with pytest.raises(RecordError, match=r"is on a read-only file system|may not be written by this user") as caught:
        write()
    assert "\n" not in str(caught.value)


def fill_up(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        while file.tell() < 1 << 27:
            file.write(bytes(1 << 16))
    raise OSError("no limit on space here")


@pytest.mark.parametrize("how", ["closed", "killed", "without an index", "closed while it was read"])
def test_on_a_read_only_file_system(tmp_path: Path, how: str) -> None:
    with small_disk(tmp_path / "disk", 4096) as lift:
        lift()
        folder = tmp_path / "disk" / "run"
        if how == "closed":
            write(folder)
        elif how == "closed while it was read":
            record = write(folder, close=False)
            with Record.open(folder):
                record.set_status("finished")
                record.close()
            for side in ("-wal", "-shm"):
                folder.joinpath(f"record.sqlite{side}").unlink(missing_ok=True)
        else:
            with write(tmp_path / "living", close=False):
                leave(tmp_path / "living", folder)
            if how == "without an index":
                (folder / "record.sqlite-shm").unlink()
        before = tree(folder)
        with read_only(tmp_path / "disk"):
            state = "finished" if how.startswith("closed") else "abandoned"
            check(folder, tmp_path, state)
            if not os.access(folder, os.W_OK):  # as root it is, where nothing can be mounted
                refused(lambda: append_to(folder))
                refused(lambda: export(folder, "parquet"))
        assert tree(folder) == before


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_on_a_full_disk(tmp_path: Path, how: str) -> None:
    with small_disk(tmp_path / "disk", 4096) as lift:
        lift()
        folder = tmp_path / "disk" / "run"
        if how == "closed":
            write(folder)
        else:
            with write(tmp_path / "living", close=False):
                leave(tmp_path / "living", folder)
            (folder / "record.sqlite-shm").unlink()
        with pytest.raises(OSError, match=r"No space left on device|File too large"):
            fill_up(tmp_path / "disk" / "fill")
        check(folder, tmp_path, "finished" if how == "closed" else "abandoned")


def test_verify_writes_nothing_and_reading_a_closed_record_leaves_nothing(tmp_path: Path) -> None:
    with write(tmp_path / "living", close=False):
        leave(tmp_path / "living", tmp_path / "killed")
    (tmp_path / "killed" / "record.sqlite-shm").unlink()
    write(tmp_path / "closed")
    before = [tree(tmp_path / name) for name in ("killed", "closed")]
    assert [one.verdict for one in verify(tmp_path)] == ["whole"] * 3
    with Record.open(tmp_path / "closed") as record:
        record.fingerprint()
        assert tree(tmp_path / "closed") == before[1]
    assert [tree(tmp_path / name) for name in ("killed", "closed")] == before


def test_verify_of_a_record_that_is_being_written(tmp_path: Path) -> None:
    with write(tmp_path / "run", close=False) as record:
        for step in range(30, 40):
            assert [(one.verdict, one.wrong) for one in verify(tmp_path)] == [("whole", "")]
            record.append(step, [Reading("loss", {"": 0.5})])
            record._database.execute("PRAGMA wal_checkpoint(PASSIVE)")


def test_no_space_for_a_copy_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write(tmp_path / "living", close=False):
        leave(tmp_path / "living", tmp_path / "killed")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openings.shutil, "copyfile", full)
    with pytest.raises(
        RecordError, match=r"a copy in \S+ failed too \(No space left on device\); try TMPDIR"
    ) as caught:
        open_to_read(tmp_path / "killed" / "record.sqlite", touch=False)
    assert "\n" not in str(caught.value)
