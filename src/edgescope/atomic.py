"""Files that appear whole or not at all, whatever happens to the process or the disk while they are written."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edgescope.disk_errors import storage_faults
from edgescope.errors import RecordError
from edgescope.process_identity import machine_key, start_of

FORGOTTEN_SECONDS: Final = 86400.0
"""After which a file written aside on another machine is taken for one that a killed process left."""

_ASIDE: Final = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.part")

AS_IT_IS: Final[int] = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Flags with which a file is opened: no symbolic link is followed, and no line ends are translated."""

OPEN_FILES_STAY: Final = os.name == "nt"
"""Whether the system refuses to remove or to replace a file that a process has open, as Windows does."""

ATTEMPTS, PAUSE_SECONDS = 20, 0.05
"""How often that is tried there, and the seconds in between: others open the small files of a run for a moment."""


def write_file(path: str | os.PathLike[str], content: str | bytes, *, durable: bool = True) -> Path:
    """Write ``content`` (text as UTF-8) as the file ``path``, in place of one that is there; the path.

    It is written aside in the same folder, which is made, flushed to the disk and renamed. A symbolic link at ``path``
    is replaced, not followed. ``durable=False`` leaves out the flushing, for files that a power cut may cost. Raises
    :class:`RecordError` in one line for a full disk or a place that cannot be written; nothing is left there then.
    """
    path = Path(path)
    rest = memoryview(content.encode() if isinstance(content, str) else content)
    with storage_faults(path):
        aside = place_aside(path)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o666)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)  # before it is renamed, which Windows asks for
            _rename(aside, path, durable)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file in a folder of its own beside ``path``, to be written by the block, then renamed to ``path``.

    For libraries that write files by themselves; else as :func:`write_file`, except that errors of the file system, and
    of the block, are passed on as they are. All that lies aside is removed then, and ``path`` stays as it was.
    """
    path = Path(path)
    folder = place_aside(path)
    folder.mkdir(mode=0o700)
    try:
        aside = folder / path.name
        aside.touch(exist_ok=False)
        mode = stat.S_IMODE(aside.stat().st_mode)
        yield aside
        if stat.S_IMODE(aside.stat().st_mode) != mode:  # a library may put a file of its own there
            aside.chmod(mode)
        flush(aside)
        _rename(aside, path, durable=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place_aside(path: Path) -> Path:
    """A name beside ``path`` that nobody can guess and that tells which process made it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    own = f"{machine_key()}-{os.getpid()}-{_digits(start_of(os.getpid()))}"
    return path.with_name(f".{path.name[:150]}.{own}-{secrets.token_hex(4)}.part")


def once_closed(action: Callable[[], None]) -> None:
    """Remove or replace a file by ``action``: again, for up to a second, while others have it open on Windows."""
    for _ in range(ATTEMPTS - 1 if OPEN_FILES_STAY else 0):
        try:
            return action()
        except PermissionError:
            time.sleep(PAUSE_SECONDS)
    return action()


def _rename(aside: Path, path: Path, durable: bool) -> None:
    once_closed(lambda: os.replace(aside, path))
    if durable:
        flush(path.parent)


def subfolder(folder: str | os.PathLike[str], name: str) -> Path:
    """The folder ``name`` in ``folder``, made where it is missing; one that is a symbolic link is refused.

    Whoever else can write into ``folder`` could otherwise have us write anywhere. Raises :class:`RecordError`.
    """
    path = Path(folder) / name
    with storage_faults(path):
        path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise RecordError(
            f"{path} is a symbolic link to another folder, which is not written to", hint="removing the link"
        )
    return path


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that have been killed had written aside in ``folder``; harmless where there is nothing."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _ASIDE.fullmatch(entry.name)
            if found and _is_leftover(entry, found[1], int(found[2]), found[3]):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def _is_leftover(entry: os.DirEntry[str], machine: str, pid: int, start: str) -> bool:
    if machine == machine_key():
        return _digits(start_of(pid)) != start
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > FORGOTTEN_SECONDS


def _digits(start: str | None) -> str:
    return re.sub(r"\D", "", start or "")


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk before this returns."""
    if path.is_dir() and os.name == "nt":  # Windows has no way to flush a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
