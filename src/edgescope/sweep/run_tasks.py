"""Many tasks, each in its own folder, none at another's expense: which are due, where they run, how they ended."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edgescope.errors import InputError, RecordError
from edgescope.store.database import faults
from edgescope.sweep import task as pieces
from edgescope.sweep.processes import Processes
from edgescope.sweep.task import Outcome, Task, carry_out_task, conclude, ended_before, one_line
from edgescope.sweep.whole import Whole


class Place(AbstractContextManager["Place"], Protocol):
    """Where tasks are carried out side by side; leaving it ends whatever still runs there."""

    lacks: str
    """What a place without any room waits for."""

    def room(self) -> int:
        """How many tasks may be under way now."""

    def start(self, task: Task, folder: Path) -> Future[Outcome]:
        """Begin a task; the future fails where what carried it out died."""


def run_tasks(
    tasks: Sequence[Task],
    out: str | os.PathLike[str],
    jobs: int = 1,
    resume: bool = False,
    progress: Callable[[float, str, float | None], None] | None = None,
    modules: Sequence[str] = (),
    cluster: str | None = None,
) -> list[Outcome]:
    """Run every task in ``out/runs/<name>``, the costly ones first; outcomes in the order of ``tasks``.

    With ``jobs`` above 1 the tasks run in that many processes with cores // jobs threads each, so that threads do not
    spin against each other; with 1 they run here. With ``cluster``, the address of a Dask scheduler, they run on its
    workers, one at a time each, whatever ``jobs`` says; workers see the same files at the same paths. A task that
    raises, or whose process dies, is ``failed`` (the traceback lies in its ``error.txt``) and the others go on. A task
    whose record says so is ``diverged``. ``resume`` skips what has finished or diverged and continues the rest; without
    it an ``out`` that has these runs raises :class:`RecordError`. On Ctrl-C all work stops, unfinished runs are marked
    ``interrupted``, and :class:`KeyboardInterrupt` is raised again.

    ``progress`` receives the fraction done of the total cost (it never falls), words, and the seconds left (None until
    known). ``modules`` are imported by every worker first, so that what they register is known there too. Raises
    :class:`InputError` where no scheduler answers at ``cluster`` within seconds.
    """
    _check(tasks, jobs)
    folders = {task.name: Path(out).absolute() / "runs" / task.name for task in tasks}
    if cluster is None:
        folders = {task.name: Path(out) / "runs" / task.name for task in tasks}
    taken = [folder for folder in folders.values() if folder.exists() and any(folder.iterdir())]
    if taken and not resume:
        raise RecordError(f"{out} already holds runs ({taken[0].name})", hint="--resume, or another folder")
    place = _place(tasks, out, jobs, modules, cluster)  # before anything is written: it may not be reached
    outcomes = {name: done for name, folder in folders.items() if (done := ended_before(name, folder))}
    whole = Whole(tasks, folders, outcomes, progress)
    waiting = deque(sorted((t for t in tasks if t.name not in outcomes), key=lambda task: -task.cost))
    for task in waiting:
        with faults(folders[task.name]):
            folders[task.name].mkdir(parents=True, exist_ok=True)
            for stale in ("outcome.json", "error.txt"):
                (folders[task.name] / stale).unlink(missing_ok=True)
    try:
        whole.tell()
        if place is None:
            for task in waiting:
                whole.running.append(task.name)
                whole.end(carry_out_task(task, folders[task.name], whole.tell))
        else:
            with place:
                _run_at(place, waiting, folders, whole)
    except BaseException:
        for name in folders.keys() - outcomes.keys():
            if not ended_before(name, folders[name]):  # a worker may have ended while we were being stopped
                conclude(Outcome(name, folders[name], "interrupted", 0.0))
        raise
    return [outcomes[task.name] for task in tasks]


def check_jobs(jobs: int) -> None:
    """Raise :class:`InputError` for a number of processes that cannot be."""
    if jobs < 1:
        raise InputError(f"{jobs} jobs", expected="at least 1")


def check_cluster(address: str) -> None:
    """Raise :class:`InputError` where no scheduler answers at ``address`` within seconds."""
    from edgescope.sweep.cluster import connected

    connected(address).close()


def _place(
    tasks: Sequence[Task], out: str | os.PathLike[str], jobs: int, modules: Sequence[str], cluster: str | None
) -> Place | None:
    if cluster is not None:
        from edgescope.sweep.cluster import Cluster

        return Cluster(cluster, Path(out).absolute(), modules)
    # By the number of tasks, not of those left: a resumed sweep must compute with the same threads.
    return None if jobs == 1 else Processes(min(jobs, max(1, len(tasks))), modules)


def _run_at(place: Place, waiting: deque[Task], folders: dict[str, Path], whole: Whole) -> None:
    running: dict[Future[Outcome], tuple[Task, float]] = {}
    while waiting or running:
        room = place.room()
        while waiting and len(running) < room:
            task = waiting.popleft()
            running[place.start(task, folders[task.name])] = (task, time.monotonic())
            whole.running.append(task.name)
        whole.waiting_for = "" if room else place.lacks
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
            whole.end(outcome)
        whole.tell()


def _check(tasks: Sequence[Task], jobs: int) -> None:
    check_jobs(jobs)
    seen: set[str] = set()
    for task in tasks:
        if not re.fullmatch(r"[^/\\:\0]+", task.name) or task.name in (".", ".."):
            raise InputError(f"a task named '{task.name}'", expected="a name that a folder can have")
        if task.name in seen:
            raise InputError(f"two tasks are named '{task.name}'", expected="a name of its own for each")
        if not (math.isfinite(task.cost) and task.cost > 0):
            raise InputError(f"task '{task.name}' has the cost {task.cost}", expected="a positive number")
        seen.add(task.name)
