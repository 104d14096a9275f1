"""Records on a system that neither removes nor replaces a file that is open, as Windows: here, one that is made so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgescope import atomic
from edgescope.atomic import write_file
from edgescope.errors import RecordError
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.store.lock import FILE, RunLock, holder_of

OPEN = Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not OPEN.is_dir(), reason="what is open cannot be looked up here")


def is_open(path: Any) -> bool:
    """Whether this process has the file open."""
    try:
        wanted = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    for one in OPEN.iterdir():
        try:
            found = one.stat()
        except OSError:  # that of the listing itself
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(act: Callable[..., None]) -> Callable[..., None]:
        def attempt(*paths: Any, **more: Any) -> None:
            for path in paths:
                if is_open(path):
                    raise PermissionError(13, "the process cannot access the file because it is being used", str(path))
            act(*paths, **more)

        return attempt

    for name in ("unlink", "remove", "replace", "rename"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(atomic, "OPEN_FILES_STAY", True)
    monkeypatch.setattr(atomic, "PAUSE_SECONDS", 0.0)


def test_the_system_is_as_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("w", encoding="utf-8"), pytest.raises(PermissionError):
        path.unlink()
    path.unlink()


def test_a_lock_is_taken_held_and_released(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.committed(3)
    holder = holder_of(tmp_path, FILE)
    assert holder is not None
    assert (holder.pid, holder.commits) == (os.getpid(), 3)
    with pytest.raises(RecordError, match="is being written by"):
        RunLock(tmp_path)
    lock.check()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_that_has_ended_is_taken_over(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr("edgescope.store.lock.start_of", lambda pid: "another start")
        ended = RunLock(tmp_path)
    os.close(ended._descriptor)  # as where a process is killed
    ended._descriptor = -1
    second = RunLock(tmp_path)
    assert second.stale is not None
    assert second.stale.start == "another start"
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_others_read_for_a_moment_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a.json", "1")
    reader = path.open(encoding="utf-8")
    monkeypatch.setattr(atomic.time, "sleep", lambda _: reader.close())
    write_file(path, "2")
    assert path.read_text(encoding="utf-8") == "2"
    with path.open(encoding="utf-8"):
        with pytest.raises(RecordError):
            write_file(path, "3")
        assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_record_is_written_closed_continued_and_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Record.create(folder, config={"lr": 0.1}) as record:
        record.append(0, [Reading("loss", {"": 1.0})])
    assert not (folder / FILE).exists()
    with Record.resume(folder, config={"lr": 0.1}) as record:
        record.append(1, [Reading("loss", {"": 0.5})])
        record.set_status("finished")
    with Record.open(folder) as record:
        assert record.series("loss")[1].tolist() == [1.0, 0.5]
    with Record.create(folder, config={"lr": 0.2}, overwrite=True) as record:
        record.append(0, [Reading("loss", {"": 2.0})])
    with Record.open(folder) as record:
        assert record.series("loss")[1].tolist() == [2.0]


def test_files_are_opened_without_translation_of_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "O_BINARY"):
        assert atomic.AS_IT_IS & os.O_BINARY
    seen: list[int] = []
    usual = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *rest, **more: seen.append(flags) or usual(path, flags, *rest, **more)
    )
    write_file(tmp_path / "a", b"1\n", durable=False)
    RunLock(tmp_path).release()
    assert len(seen) >= 2
    assert all(flags & atomic.AS_IT_IS == atomic.AS_IT_IS for flags in seen if flags & os.O_CREAT)
