"""What a file system refuses, told in one line: a full disk, a place that may not be written, anything else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgescope.errors import DiskFullError, RecordError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXTS: Final = ("No space left on device", "Disk quota exceeded", "database or disk is full")
"""How libraries say it that report the system's error as text."""

ANOTHER_PLACE: Final = "a folder that this user may write to"


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk, or a used-up quota, is why ``error`` was raised."""
    while True:
        if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in FULL):
            return True
        if any(text in str(error) for text in FULL_TEXTS):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__


def why_not_writable(path: Path) -> str | None:
    """Why ``path`` cannot be written, where its place says so itself; None where nothing speaks against it."""
    place = path if path.exists() else next((p for p in path.parents if p.exists()), Path())
    try:
        read_only = bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):  # Windows has no statvfs
        read_only = False
    if read_only:
        return f"{path} is on a read-only file system"
    return None if os.access(place, os.W_OK) else f"{path} may not be written by this user"


def storage_error(error: BaseException, path: Path, kept: str = "", again: str = "freeing space") -> RecordError:
    """The one line for what writing or reading ``path`` raised; ``kept`` says what is still there."""
    also = f"; {kept}" if kept else ""
    if disk_is_full(error):
        return DiskFullError(f"the disk is full while writing {path}{also}", hint=again)
    number = getattr(error, "errno", None)
    if number == errno.EROFS:
        return RecordError(f"{path} is on a read-only file system{also}", hint=ANOTHER_PLACE)
    if number in (errno.EACCES, errno.EPERM):
        why = why_not_writable(path) or f"{path} may not be read or written by this user"
        return RecordError(f"{why}{also}", hint=ANOTHER_PLACE)
    if number in (errno.EMFILE, errno.ENFILE):
        return RecordError(f"too many files are open to open {path} too{also}", hint="a higher limit (ulimit -n)")
    if number == errno.ELOOP:
        return RecordError(f"{path} is a symbolic link, which is not followed{also}", hint="removing the link")
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return RecordError(f"cannot read or write {path} ({text}){also}", hint=ANOTHER_PLACE)


@contextlib.contextmanager
def storage_faults(path: Path, again: str = "freeing space") -> Iterator[None]:
    """Turn what the file system raises into one :class:`RecordError` about ``path``."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, again=again) from error
