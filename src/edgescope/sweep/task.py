"""Tasks: one piece of work in one folder, its progress, and its outcome."""

from __future__ import annotations

import contextlib
import json
import re
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, runtime_checkable

from joblib.externals.loky.process_executor import TerminatedWorkerError

from edgescope.atomic import write_file
from edgescope.bounded import read_bounded
from edgescope.disk_errors import disk_is_full
from edgescope.errors import EdgescopeError, EdgescopeWarning
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep.owner import task_owned
from edgescope.sweep.planned_run import PlannedRun
from edgescope.training import RunConfig

POLL_SECONDS: Final = 0.2
LARGEST_JSON: Final = 2**20
"""The largest size of a small JSON file in bytes."""


@runtime_checkable
class Task(Protocol):
    """One piece of work that stores all of its results in one folder and can be resumed from that folder.

    ``cost`` (any unit) sets its weight in the progress of the sweep and the order of tasks. ``run`` may call
    ``progress`` at any time.
    ``tags`` say what the run is (its method, network, seed) to those who select runs by it; the task stores them in the
    records that it creates. A task is pickled: it holds descriptions, no models.
    """

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> float: ...

    @property
    def tags(self) -> Mapping[str, str]: ...

    def run(self, folder: Path, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Tagged:
    """A base class of tasks, dataclasses whose ``tags`` are none unless given, that can be moved and planned."""

    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True, hash=False)

    def on_device(self, device: str) -> Self:
        """This task, with its runs on ``device``; itself where it computes on the CPU alone.

        Every :class:`RunConfig` among the fields is moved. A task that makes its configurations from other fields has a
        method of its own.
        """
        moved: dict[str, Any] = {name: replace(config, device=device) for name, config in self._configs().items()}
        return replace(self, **moved) if moved else self

    def planned_runs(self) -> Sequence[PlannedRun]:
        """The training runs of this task, for a plan of what they cost: one for each :class:`RunConfig` among the
        fields. None for a simulation or a construction, which is not estimated."""
        return [PlannedRun(config, config.steps) for config in self._configs().values()]

    @property
    def expected_seconds(self) -> float | None:
        """The seconds on one core that a task without a :class:`PlannedRun` of known length expects of itself."""
        return None

    def _configs(self) -> dict[str, RunConfig]:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, RunConfig)}


def tasks_on(tasks: Sequence[Task], device: str) -> list[Task]:
    """The tasks with their runs on ``device``; those that cannot be moved as they are."""
    return [task.on_device(device) if isinstance(task, Tagged) else task for task in tasks]


@dataclass(frozen=True)
class Outcome:
    """How one task ended. ``skipped``: it had ended in an earlier sweep, and took ``seconds`` then.

    ``disk_full`` tells that it failed because the disk is full.
    """

    name: str
    folder: Path
    status: Literal["finished", "diverged", "failed", "interrupted", "skipped"]
    seconds: float
    error: str | None = None
    disk_full: bool = False


def run_task(task: Task, folder: Path, tell: Callable[[], None] | None = None) -> Outcome:
    """Run ``task`` in ``folder`` and store its outcome there; ``tell`` is called a few times a second.

    If another process runs it, the outcome is "failed", the error names that process, and nothing is written.

    Warnings of this package are not shown, since many runs would repeat them; they are events in the records.
    """
    try:
        with task_owned(folder):
            return _run(task, folder, tell)
    except EdgescopeError as fault:  # nothing is written where another process is at it
        return Outcome(task.name, folder, "failed", 0.0, str(fault), disk_is_full(fault))


def _run(task: Task, folder: Path, tell: Callable[[], None] | None) -> Outcome:
    started = time.monotonic()
    status: Literal["finished", "diverged", "failed"] = "finished"
    error, full = None, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EdgescopeWarning)
            task.run(folder, Reporter(folder, tell))
        if (folder / FILE).exists():
            with Record.open(folder) as record:
                status = "diverged" if record.status == "diverged" else "finished"
    except (Exception, SystemExit) as fault:
        status, error, full = "failed", one_line(fault), disk_is_full(fault)
        with contextlib.suppress(EdgescopeError):
            write_file(folder / "error.txt", traceback.format_exc())
    outcome = Outcome(task.name, folder, status, time.monotonic() - started, error, full)
    conclude(outcome)
    return outcome


def conclude(outcome: Outcome) -> None:
    """Store an outcome in its folder for ``resume``, and set the status of a record that was running."""
    # On a full disk neither can be written; the run is then taken up again by the next --resume, which is right.
    with contextlib.suppress(EdgescopeError):
        write_json(outcome.folder / "outcome.json", asdict(outcome) | {"folder": str(outcome.folder)})
        if outcome.status in ("failed", "interrupted") and (outcome.folder / FILE).exists():
            with Record.open(outcome.folder) as record:
                if record.status == "running":
                    if outcome.error is not None:
                        record.note(record.last_step or 0, "failed", outcome.error)
                    record.set_status(outcome.status)


def ended_before(name: str, folder: Path) -> Outcome | None:
    """The outcome "skipped" of a task that finished or diverged in this folder before; None otherwise."""
    past = read_json(folder / "outcome.json")
    if past.get("status") not in ("finished", "diverged"):
        return None
    seconds = past.get("seconds")
    return Outcome(name, folder, "skipped", float(seconds) if isinstance(seconds, int | float) else 0.0)


class Reporter:
    """The progress callback of a task, which writes to a small file in its folder at most a few times a second."""

    def __init__(self, folder: Path, tell: Callable[[], None] | None) -> None:
        self._path = folder / "progress.json"
        self._tell = tell
        self._next = 0.0

    def __call__(self, fraction: float, text: str = "", seconds_left: float | None = None, /) -> None:
        now = time.monotonic()
        if now < self._next and fraction < 1:
            return
        self._next = now + POLL_SECONDS
        with contextlib.suppress(EdgescopeError):  # progress is not worth a run
            content = {"fraction": min(max(float(fraction), 0.0), 1.0), "text": text}
            write_json(self._path, content, durable=False)
        if self._tell:
            self._tell()


def one_line(fault: BaseException) -> str:
    """An exception as the error of an outcome."""
    if isinstance(fault, EdgescopeError):
        return str(fault)
    text = " ".join(str(fault).split())
    if isinstance(fault, TerminatedWorkerError):
        codes = re.search(r"\{(.*?)\}", text)
        how = f" ({codes[1]})" if codes else ""
        return f"its process died{how}; try --resume, with fewer jobs if memory ran out"
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def write_json(path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Write a small JSON file atomically."""
    write_file(path, json.dumps(content), durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a small JSON file; empty if it is missing or damaged."""
    try:
        content = json.loads(read_bounded(path, LARGEST_JSON).decode("utf-8"))
    except (EdgescopeError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
