"""Which runs a study's folder holds, where, and with which tags: so that a report need not build the tasks again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, runtime_checkable

from edgescope.atomic import write_file
from edgescope.description import read_description
from edgescope.errors import RecordError
from edgescope.sweep import Task

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class ManifestEntry:
    """A run that a task leaves a record of: its name, its folder below ``runs``, and its tags."""

    name: str
    folder: str
    tags: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class SeveralRuns(Protocol):
    """A task that carries out several runs at once, each with a record in a folder below the task's own."""

    def entries(self) -> list[ManifestEntry]: ...


def entries_of(task: Task) -> list[ManifestEntry]:
    """The runs that a task leaves records of: one in its own folder, unless it says otherwise."""
    return task.entries() if isinstance(task, SeveralRuns) else [ManifestEntry(task.name, task.name, dict(task.tags))]


def write_manifest(folder: Path, entries: Iterable[ManifestEntry]) -> None:
    """Keep the runs of a study; those of an earlier call that are no longer among its tasks stay listed."""
    known = {entry.name: entry for entry in read_manifest(folder) or ()}
    known |= {entry.name: entry for entry in entries}
    listed = [{"name": e.name, "folder": e.folder, "tags": dict(e.tags)} for e in known.values()]
    write_file(folder / MANIFEST, json.dumps({"runs": listed}, indent=1, ensure_ascii=False))


def read_manifest(folder: Path) -> list[ManifestEntry] | None:
    """The runs that a study's folder holds; None where it has no manifest.

    Raises :class:`RecordError` for one that is damaged, or that names a folder outside of ``runs``.
    """
    path = folder / MANIFEST
    found = read_description(path)
    if found is None:
        return None
    listed = found.get("runs")
    if not isinstance(listed, list):
        raise RecordError(f"{path} is damaged", expected="a list of runs", hint=f"removing {path.name}")
    return [_entry(values, path) for values in listed]


def _entry(values: Any, path: Path) -> ManifestEntry:
    known: dict[str, Any] = values if isinstance(values, dict) else {}
    name, folder, tags = known.get("name"), known.get("folder"), known.get("tags")
    if (
        not isinstance(name, str)
        or not isinstance(folder, str)
        or not isinstance(tags, dict)
        or not all(isinstance(value, str) for value in tags.values())
    ):
        raise RecordError(
            f"{path} is damaged", expected="runs with name, folder and tags", hint=f"removing {path.name}"
        )
    inside = PurePosixPath(folder)
    if inside.is_absolute() or ".." in inside.parts:
        raise RecordError(f"{path} names the folder {folder!r}", expected="a folder below runs")
    return ManifestEntry(name, folder, tags)
