"""The record of a task that can be interrupted and continued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgescope.store import Record
from edgescope.store.record import FILE


def open_record(folder: Path, config: dict[str, Any], tags: Mapping[str, str]) -> Record:
    """The record in the folder of a task: continued where there is one of the same ``config``, otherwise a new one."""
    if (folder / FILE).exists():
        return Record.resume(folder, config=config)
    return Record.create(folder, config=config, tags=tags)
