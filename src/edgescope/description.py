"""What a folder says that it holds: a small JSON file, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Final

from edgescope.atomic import remove_leftovers
from edgescope.bounded import read_bounded
from edgescope.disk_errors import storage_error, storage_faults
from edgescope.errors import RecordError

STUDY: Final = "study.json"
SWEEP: Final = "sweep.json"
OWNER: Final = "owner.lock"
"""The lock of whoever carries out tasks in a folder; one that a killed process left says nothing of what is there."""

LARGEST: Final = 2**20
"""Bytes of such a file, at most."""


def is_taken(folder: Path) -> bool:
    """Whether anything is in a folder, apart from its lock and from what killed processes had written aside, which is
    removed."""
    if not folder.is_dir():
        return False
    remove_leftovers(folder)
    with storage_faults(folder):
        return any(path.name != OWNER for path in folder.iterdir())


def lost_description(folder: Path) -> bool:
    """Whether a folder has runs of a study or a sweep, but no longer the file that says of which."""
    return (folder / "runs").is_dir() and not any((folder / name).exists() for name in (STUDY, SWEEP))


def read_description(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file ``path``; None where there is no such file.

    Raises :class:`RecordError` for one that cannot be read or is damaged: what else lies there should then not be
    taken for something else.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    found: object = None
    with contextlib.suppress(ValueError, RecursionError):  # an InputError, for a file that is no file, is a ValueError
        found = json.loads(read_bounded(path, LARGEST).decode("utf-8"))
    if not isinstance(found, dict):
        raise RecordError(
            f"{path} is damaged",
            expected="a JSON object that describes the content of the folder",
            hint=f"removing {path.name}, then the command that made the folder with --resume, which writes it again",
        )
    return found
