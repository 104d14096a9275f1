"""Where the runs below a folder are."""

from __future__ import annotations

import os
from pathlib import Path

from edgescope.disk_errors import storage_error
from edgescope.store.database import FILE


def runs_below(folder: Path) -> dict[str, Path]:
    """The folders that hold a record by their paths below ``folder``, in order; ``""`` alone where it is one itself.

    Symbolic links to folders are not followed.
    """
    if (folder / FILE).exists():
        return {"": folder}
    found = {}
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FILE in files:
            found[Path(place).relative_to(folder).as_posix()] = Path(place)
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise storage_error(error, Path(error.filename)) from error
