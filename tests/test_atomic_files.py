"""Files appear whole or not at all: at every failing call, with links in the way, after a kill, side by side."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgescope import atomic
from edgescope.atomic import remove_leftovers, subfolder, write_aside, write_file
from edgescope.disk_errors import disk_is_full, storage_error
from edgescope.errors import RecordError

OPEN = os.open
CALLS = ("open", "write", "fsync", "replace")
"""What the system is asked for while a file is written."""


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def by_library(path: Path, content: str) -> None:
    with write_aside(path) as aside:
        aside.write_text(content)


WRITERS: dict[str, Callable[[Path, str], Any]] = {"at once": write_file, "by a library": by_library}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_made_and_replaced(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    for content in ("η" * 10, "x" * 300_000, ""):
        if writer == "by a library":
            path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[writer](path, content)
        assert path.read_text(encoding="utf-8") == content
        assert names(path.parent) == ["file.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_whichever_call_fails_the_old_file_stays_and_nothing_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, number: int
) -> None:
    path = write_file(tmp_path / "file.txt", "old")
    failed = 0
    for name in CALLS:
        for nth in range(6):
            calls, real = iter(range(100)), getattr(os, name)

            def call(*arguments: Any, calls=calls, real=real, nth=nth, **options: Any) -> Any:  # type: ignore[no-untyped-def]
                creates = real is not OPEN or arguments[1] & os.O_CREAT  # others are to clean up
                if creates and next(calls) == nth:
                    raise OSError(number, os.strerror(number))
                return real(*arguments, **options)

            monkeypatch.setattr(os, name, call)
            try:
                WRITERS[writer](path, "new")
            except (RecordError, OSError) as error:
                failed += 1
                line = str(storage_error(error, path) if isinstance(error, OSError) else error)
                assert "\n" not in line
                assert str(path) in line
                assert ("the disk is full" in line) == (number in (errno.ENOSPC, errno.EDQUOT))
            finally:
                monkeypatch.undo()
            assert names(tmp_path) == ["file.txt"]
            whole = path.read_text()
            assert whole in ("old", "new")
            path.write_text("old")
    assert failed >= (5 if writer == "at once" else 3)


def test_a_link_at_the_name_is_replaced_and_what_it_leads_to_is_left(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for name, writer in WRITERS.items():
        path = tmp_path / f"{name}.json"
        path.symlink_to(tmp_path / "precious")
        writer(path, "ours")
        assert not path.is_symlink()
        assert path.read_text() == "ours"
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="run/figures is a symbolic link to another folder") as caught:
        subfolder(tmp_path / "run", "figures")
    assert "\n" not in str(caught.value)
    assert subfolder(tmp_path / "run", "other").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot read or write"):
        subfolder(tmp_path, "file")


def killed_while_writing(path: Path, how: str) -> None:
    body = {
        "at once": f"os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\natomic.write_file({str(path)!r}, 'half')",
        "by a library": f"with atomic.write_aside({str(path)!r}) as aside:\n    aside.write_text('half')\n"
        "    (aside.parent / 'log').write_text('beside')\n    os.kill(os.getpid(), 9)",
    }[how]
    done = subprocess.run([sys.executable, "-c", f"import os\nfrom edgescope import atomic\n{body}"])
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_swept_up_by_the_next_writer(tmp_path: Path) -> None:
    write_file(tmp_path / "file.txt", "old")
    for how in WRITERS:
        killed_while_writing(tmp_path / "file.txt", how)
        assert len(names(tmp_path)) == 2  # the second of them has swept up what the first had left
    assert (tmp_path / "file.txt").read_text() == "old"
    with write_aside(tmp_path / "living.txt") as aside:  # of a process that lives nothing is taken
        aside.write_text("whole")
        write_file(tmp_path / "other.txt", "")
        assert names(tmp_path)[1:] == ["file.txt", "other.txt"]
    assert names(tmp_path) == ["file.txt", "living.txt", "other.txt"]
    assert (tmp_path / "living.txt").read_text() == "whole"


def test_what_another_machine_left_is_swept_up_after_a_day(tmp_path: Path) -> None:
    other = tmp_path / ".file.txt.0123abcd-1-17-0123abcd.part"
    other.touch()
    innocent = [".file.txt.part", "file.txt.0123abcd-1-17-0123abcd.part", ".file.txt.new"]
    for name in innocent:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert other.exists()
    old = other.stat().st_mtime - atomic.FORGOTTEN_SECONDS - 1
    for name in (other.name, *innocent):
        os.utime(tmp_path / name, (old, old))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(innocent)
    remove_leftovers(tmp_path / "nowhere")


def test_writers_side_by_side_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [str(number) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=write_file, args=(tmp_path / "x", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_text() in contents
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_known_by_its_number_its_text_and_its_cause() -> None:
    outer = ValueError("a library's own")
    assert not disk_is_full(outer)
    outer.__cause__ = OSError(errno.ENOSPC, "x")
    assert disk_is_full(outer)
    told = storage_error(OSError(errno.EDQUOT, "x"), Path("a"))
    told.__cause__ = None  # as errors leave a public function, without the frames inside
    assert disk_is_full(told)
    assert disk_is_full(pickle.loads(pickle.dumps(told)))  # from a process of a sweep
    assert disk_is_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not disk_is_full(OSError(errno.EIO, "Input/output error"))


def test_the_lines_of_other_faults() -> None:
    lines = {number: str(storage_error(OSError(number, os.strerror(number)), Path("a/b"))) for number in (30, 40, 21)}
    assert lines[errno.EROFS].startswith("a/b is on a read-only file system; try ")
    assert lines[errno.ELOOP].startswith("a/b is a symbolic link, which is not followed; try ")
    assert lines[errno.EISDIR].startswith("cannot read or write a/b (Is a directory); try ")
