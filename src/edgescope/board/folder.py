"""Which runs lie below the folder of the page, and when one of them has changed; nothing outside it is ever opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from edgescope.errors import EdgescopeError
from edgescope.store.database import side_files
from edgescope.store.lock import FILE as LOCK
from edgescope.store.record import FILE
from edgescope.store.runs_below import runs_below

Stamp = tuple[tuple[int, int, int], ...]
"""Time, size and inode of each file of a record, and of its lock only whether there is one."""

_ABSENT: Final = (0, -1, 0)


def runs_inside(folder: Path) -> dict[str, Path]:
    """The runs below ``folder`` by their paths there, as :func:`runs_below`, without those whose files are links.

    A link could lead out of the folder. Symbolic links to folders are not followed either.
    """
    return {name: place for name, place in runs_below(folder).items() if is_inside(place, folder)}


def is_inside(place: Path, folder: Path) -> bool:
    """Whether the run in ``place`` lies in ``folder`` with all of its files, none of them a symbolic link."""
    if not place.resolve().is_relative_to(folder.resolve()):
        return False
    return not any(file.is_symlink() for file in (place / FILE, place / LOCK, *side_files(place / FILE)))


def stamp_of(place: Path) -> Stamp:
    """What changes when the record in ``place`` does. That its owner touches the lock now and then is no change."""
    path = place / FILE
    log, _, journal = side_files(path)
    found = [_state(file) for file in (path, log, journal)]
    return (*found, (0, 0, 0) if _state(place / LOCK) != _ABSENT else _ABSENT)


def last_change(place: Path) -> float:
    """The time of the last change of a record, in seconds since 1970; 0 where it cannot be read."""
    times = [_state(file)[0] for file in (place / FILE, side_files(place / FILE)[0])]
    return max(times) / 1e9


def _state(file: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(file, follow_symlinks=False)
    except OSError:
        return _ABSENT
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else _ABSENT


def listed(folder: Path) -> dict[str, Path]:
    """:func:`runs_inside`; empty where the folder cannot be read now, which may pass."""
    try:
        return runs_inside(folder)
    except EdgescopeError:
        return {}
