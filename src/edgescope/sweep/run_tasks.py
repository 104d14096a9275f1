"""Many tasks, each in its own folder, none at another's expense: which are due, where they run, how they ended."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgescope.atomic import subfolder
from edgescope.errors import InputError, RecordError
from edgescope.options import check_int
from edgescope.progress import Progress
from edgescope.store.database import faults
from edgescope.store.lock import RunLock
from edgescope.sweep import task as pieces
from edgescope.sweep.owner import owned
from edgescope.sweep.processes import Processes
from edgescope.sweep.sweep_progress import SweepProgress
from edgescope.sweep.task import Outcome, Task, conclude, ended_before, one_line, run_task


@runtime_checkable
class Place(AbstractContextManager["Place"], Protocol):
    """Where tasks run concurrently; leaving the context ends the tasks that still run there."""

    lacks: str
    """What is missing while the place can run no task, for the progress line."""

    def room(self) -> int:
        """The number of tasks that may run there now."""

    def start(self, task: Task, folder: Path) -> Future[Outcome]:
        """Start a task; the future fails if its process dies."""


def run_tasks(
    tasks: Sequence[Task],
    out: str | os.PathLike[str],
    jobs: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
    modules: Sequence[str] = (),
    cluster: str | None = None,
    owner: RunLock | None = None,
) -> list[Outcome]:
    """Run every task in ``out/runs/<name>``, the most costly first; return outcomes in the order of ``tasks``.

    Args:
        tasks: what to run.
        out: the folder of the sweep. One process at a time owns it; a second one gets a :class:`RecordError` that names
            the first.
        jobs: number of processes, each with cores // jobs threads, so that threads do not compete; 1 runs the tasks in
            this process.
        resume: skip tasks that have finished or diverged and continue the others. Without it, an ``out`` that already
            has these runs raises :class:`RecordError`.
        progress: called with the share of the total cost that is done, which never decreases, a text, and the seconds
            left (None until known).
        modules: modules that every worker imports first, so that the names they register are known there.
        cluster: address of a Dask scheduler. Its workers then run the tasks, one at a time each, in place of ``jobs``
            processes; they must see the same files at the same paths. Raises :class:`InputError` if no scheduler
            answers within seconds.
        owner: the lock of ``out``, if the caller has taken it already (:func:`edgescope.sweep.owner.owned`).

    A task that raises, or whose process dies, is ``failed``, with its traceback in ``error.txt``; the others continue.
    A task whose record says so is ``diverged``. A full disk ends all tasks with a :class:`RecordError`. On Ctrl-C all
    work stops, unfinished runs are marked ``interrupted``, and :class:`KeyboardInterrupt` is raised again. All workers
    end with this process, however it ends: those of ``jobs`` at once, those of a cluster at their next call of
    ``progress``.
    """
    _check(tasks, jobs)
    with owned(out, owner):
        place_of_runs = Path(out) if cluster is None else Path(out).absolute()
        folders = {task.name: place_of_runs / "runs" / task.name for task in tasks}
        taken = [folder for folder in folders.values() if folder.exists() and any(folder.iterdir())]
        if taken and not resume:
            raise RecordError(
                f"{out} already contains runs ({taken[0].name})",
                hint="resume=True (--resume on the command line), or another folder",
            )
        place = _place(tasks, out, jobs, modules, cluster)  # before anything is written: it may not be reached
        return _run_in(folders, tasks, place, progress)


def check_jobs(jobs: int) -> None:
    """Raise :class:`InputError` for an impossible number of processes."""
    check_int("a sweep", "jobs", jobs, least=1)


def check_cluster(address: str) -> None:
    """Raise :class:`InputError` if no scheduler answers at ``address`` within seconds."""
    from edgescope.sweep.cluster import connected

    connected(address).close()


def _run_in(
    folders: dict[str, Path], tasks: Sequence[Task], place: Place | None, progress: Progress | None
) -> list[Outcome]:
    outcomes = {name: done for name, folder in folders.items() if (done := ended_before(name, folder))}
    overall = SweepProgress(tasks, folders, outcomes, progress)
    waiting = deque(sorted((t for t in tasks if t.name not in outcomes), key=lambda task: -task.cost))
    for task in waiting:
        with faults(folders[task.name]):
            subfolder(subfolder(folders[task.name].parent.parent, "runs"), task.name)
            for stale in ("outcome.json", "error.txt"):
                (folders[task.name] / stale).unlink(missing_ok=True)
    try:
        overall.tell()
        if place is None:
            for task in waiting:
                overall.running.append(task.name)
                outcome = run_task(task, folders[task.name], overall.tell)
                overall.end(outcome)
                _refuse_full_disk(outcome)
        else:
            with place:
                _run_at(place, waiting, folders, overall)
    except BaseException:
        for name in folders.keys() - outcomes.keys():
            if not ended_before(name, folders[name]):  # a worker may have ended while we were being stopped
                conclude(Outcome(name, folders[name], "interrupted", 0.0))
        raise
    return [outcomes[task.name] for task in tasks]


def _place(
    tasks: Sequence[Task], out: str | os.PathLike[str], jobs: int, modules: Sequence[str], cluster: str | None
) -> Place | None:
    if cluster is not None:
        from edgescope.sweep.cluster import Cluster

        return Cluster(cluster, Path(out).absolute(), modules)
    # By the number of tasks, not of those left: a resumed sweep must compute with the same threads.
    return None if jobs == 1 else Processes(min(jobs, max(1, len(tasks))), modules)


def _run_at(place: Place, waiting: deque[Task], folders: dict[str, Path], overall: SweepProgress) -> None:
    running: dict[Future[Outcome], tuple[Task, float]] = {}
    while waiting or running:
        room = place.room()
        while waiting and len(running) < room:
            task = waiting.popleft()
            running[place.start(task, folders[task.name])] = (task, time.monotonic())
            overall.running.append(task.name)
        overall.waiting_for = "" if room else place.lacks
        if not running:
            time.sleep(pieces.POLL_SECONDS)
        done, _ = wait(running, timeout=pieces.POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            task, started = running.pop(future)
            try:
                outcome = future.result()
            except Exception as fault:
                outcome = Outcome(task.name, folders[task.name], "failed", time.monotonic() - started, one_line(fault))
                conclude(outcome)
            overall.end(outcome)
            _refuse_full_disk(outcome)
        overall.tell()


def _refuse_full_disk(outcome: Outcome) -> None:
    """End the sweep if a run found the disk full, since all others would fail too."""
    if outcome.disk_full:
        raise RecordError(
            f"the disk is full while writing {outcome.folder}; what was committed is kept, no further run starts",
            hint="freeing space, then --resume",
        )


def _check(tasks: Sequence[Task], jobs: int) -> None:
    check_jobs(jobs)
    seen: set[str] = set()
    for task in tasks:
        if not re.fullmatch(r"[^/\\:\0]+", task.name) or task.name in (".", ".."):
            raise InputError(f"a task named '{task.name}'", expected="a valid name of a folder")
        if task.name in seen:
            raise InputError(f"two tasks are named '{task.name}'", expected="different names")
        if not (math.isfinite(task.cost) and task.cost > 0):
            raise InputError(f"task '{task.name}' has the cost {task.cost}", expected="a positive number")
        seen.add(task.name)
