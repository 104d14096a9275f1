"""Whose a folder is: one process at a time carries out the tasks of a sweep or a study, and one at a time each task."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgescope.description import OWNER
from edgescope.disk_errors import storage_faults
from edgescope.store.lock import RunLock, holder_of

ENDING_SECONDS: Final = 10.0
"""For a worker to end whose sweep was killed, before its task is begun again."""


@contextlib.contextmanager
def owned(folder: str | os.PathLike[str], owner: RunLock | None = None) -> Iterator[RunLock]:
    """Own ``folder`` during the block: its lock, or that of an ``owner`` who has taken it already.

    The folder is made where it is missing, and removed where it was and is empty afterwards. Raises
    :class:`RecordError` that names the process where another one owns it.
    """
    if owner is not None:
        yield owner
        return
    folder = Path(folder)
    made: list[Path] = []
    for path in (folder, *folder.parents):
        if path.exists() or path.is_symlink():
            break
        made.append(path)
    with storage_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = RunLock(folder, OWNER)
        try:
            yield lock
        finally:
            lock.release()
    finally:
        with contextlib.suppress(OSError):  # what is not empty stays
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def task_owned(folder: Path) -> Iterator[None]:
    """Own the folder of one task during the block, after some seconds for a worker that is about to end.

    Raises :class:`RecordError` that names the process where another one still carries it out.
    """
    until = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < until:
        holder = holder_of(folder, OWNER)
        if holder is None or not holder.alive or holder.pid == os.getpid():
            break
        time.sleep(0.1)
    lock = RunLock(folder, OWNER)
    try:
        yield
    finally:
        lock.release()
