"""Check all records and checkpoints in a folder and its subfolders for damage, without writing anything."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgescope.errors import RecordError
from edgescope.store import database as db
from edgescope.store.checkpoint import FOLDER, load_checkpoint
from edgescope.store.checksums import CHECKED, damaged_rows
from edgescope.store.database import FILE
from edgescope.store.lock import holder_of
from edgescope.store.opening import Opened, open_to_read, open_unchecked

Verdict = Literal["whole", "unchecked", "damaged"]


@dataclass(frozen=True)
class Verified:
    """The result for one file: its ``verdict`` and, if it is damaged, what is wrong and what can still be ``used``.

    "unchecked" are files of earlier versions, which have no digest: as far as it can be seen they can be read.
    """

    path: Path
    kind: Literal["record", "checkpoint"]
    verdict: Verdict
    wrong: str = ""
    used: str = ""


def verify(folder: str | os.PathLike[str]) -> Iterator[Verified]:
    """Look at every record and every checkpoint below ``folder``, in order; nothing is written.

    Works on read-only file systems, and on records that are being written. Symbolic links to folders are not followed.
    Costs one pass over every file. Raises :class:`RecordError` where there is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"there is no folder {folder}", expected="the folder of a run, or of several")
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FILE in files:
            yield verify_record(Path(place) / FILE)
        if Path(place).name == FOLDER:
            for name in sorted(files):
                if name.startswith("step-") and name.endswith(".safetensors"):
                    yield verify_checkpoint(Path(place) / name)


def verify_checkpoint(path: Path) -> Verified:
    """Look at one checkpoint."""
    try:
        checked = load_checkpoint(path).checked
    except RecordError as error:
        return Verified(path, "checkpoint", "damaged", error.what, "the other checkpoints of the run")
    return Verified(path, "checkpoint", "whole" if checked else "unchecked")


def verify_record(path: Path) -> Verified:
    """Look at one record; twice where a writer may have come in between."""
    before = holder_of(path.parent)
    found = _verify_record(path)
    if found.verdict == "damaged" and _writes(before) != _writes(holder_of(path.parent)):
        return _verify_record(path)
    return found


def _verify_record(path: Path) -> Verified:
    wrong: list[str] = []
    used = "nothing that is known"
    try:
        with db.faults(path):
            try:
                opened = open_to_read(path, touch=False)
                wrong += opened.checked.problems
                state = opened.checked.state
            except (sqlite3.DatabaseError, UnicodeDecodeError, RecordError) as error:
                wrong.append(error.what if isinstance(error, RecordError) else db.record_error(error, path).what)
                opened, state = open_unchecked(path), "altered"
            try:
                if state == "unchecked":
                    return Verified(path, "record", "unchecked")
                if state != "whole":
                    rows, used = _look_at_rows(opened)
                    wrong += rows
            finally:
                opened.close()
    except RecordError as error:
        return Verified(path, "record", "damaged", "; ".join(wrong) or error.what, used)
    return Verified(path, "record", "damaged" if wrong else "whole", "; ".join(wrong), used if wrong else "")


def _look_at_rows(opened: Opened) -> tuple[list[str], str]:
    """Which steps have rows that are not as they were written, and what that leaves."""
    with db.snapshot(opened.database):
        damaged = sorted({key[0] for table in CHECKED for key in damaged_rows(opened.database, table)}, key=str)
        steps = [step for (step,) in opened.database.execute("SELECT step FROM step ORDER BY step")]
    whole = [step for step in steps if step not in set(damaged)]
    used = f"{len(whole)} of {len(steps)} steps"
    if not damaged:
        return [], used
    few = ", ".join(map(str, damaged[:5])) + (" and others" if len(damaged) > 5 else "")
    used += " (edgescope export --damaged leaves out the rest)"
    return [f"rows of step {few} are not as they were written"], used


def _writes(holder: object) -> bool:
    return bool(holder is not None and getattr(holder, "alive", False))
