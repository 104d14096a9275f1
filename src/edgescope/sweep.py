"""Many tasks on one machine: side by side in worker processes, each in its own folder, none at another's expense."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import re
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import torch
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from edgescope.allocator import keep_freed_memory
from edgescope.errors import EdgescopeError, InputError, RecordError
from edgescope.store import Record
from edgescope.store.database import faults

POLL_SECONDS: Final = 0.2
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Task(Protocol):
    """One piece of work that keeps all it makes in one folder and continues from what it finds there.

    ``cost`` weighs it in the progress of the whole and decides the order (any unit). ``run`` calls ``progress`` with
    the fraction done (0 to 1) and a few words, as often as it likes.
    A task is pickled: it holds descriptions, no models.
    """

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> float: ...

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How one task ended. ``skipped``: it had ended in an earlier sweep. ``seconds`` it took (then, if skipped)."""

    name: str
    folder: Path
    status: Literal["finished", "diverged", "failed", "interrupted", "skipped"]
    seconds: float
    error: str | None = None


def run_tasks(
    tasks: Sequence[Task],
    out: str | os.PathLike[str],
    jobs: int = 1,
    resume: bool = False,
    progress: Callable[[float, str, float | None], None] | None = None,
    modules: Sequence[str] = (),
) -> list[Outcome]:
    """Run every task in ``out/runs/<name>``, the costly ones first; outcomes in the order of ``tasks``.

    With ``jobs`` above 1 the tasks run in that many processes with cores // jobs threads each, so that threads do not
    spin against each other; with 1 they run here. A task that raises, or whose process dies, is ``failed`` (the
    traceback lies in its ``error.txt``) and the others go on. A task whose record says so is ``diverged``. ``resume``
    skips what has finished or diverged and continues the rest; without it an ``out`` that has these runs raises
    :class:`RecordError`. On Ctrl-C all work stops, unfinished runs are marked ``interrupted``, and
    :class:`KeyboardInterrupt` is raised again.

    ``progress`` receives the fraction done of the total cost (it never falls), words, and the seconds left (None until
    known). ``modules`` are imported by every worker process first, so that what they register is known there too.
    """
    _check(tasks, jobs)
    folders = {task.name: Path(out) / "runs" / task.name for task in tasks}
    taken = [folder for folder in folders.values() if folder.exists() and any(folder.iterdir())]
    if taken and not resume:
        raise RecordError(f"{out} already holds runs ({taken[0].name})", hint="--resume, or another folder")
    outcomes = {name: done for name, folder in folders.items() if (done := _ended_before(name, folder))}
    whole = _Whole(tasks, folders, outcomes, progress)
    waiting = deque(sorted((t for t in tasks if t.name not in outcomes), key=lambda task: -task.cost))
    for task in waiting:
        with faults(folders[task.name]):
            folders[task.name].mkdir(parents=True, exist_ok=True)
            for stale in ("outcome.json", "error.txt"):
                (folders[task.name] / stale).unlink(missing_ok=True)
    try:
        whole.tell()
        if jobs == 1:
            for task in waiting:
                whole.running.append(task.name)
                whole.end(_carry_out(task, folders[task.name], whole.tell))
        else:
            # By the number of tasks, not of those left: a resumed sweep must compute with the same threads.
            _run_in_workers(waiting, folders, min(jobs, len(tasks)), modules, whole)
    except BaseException:
        for name in folders.keys() - outcomes.keys():
            if not _ended_before(name, folders[name]):  # a worker may have ended while we were being stopped
                _conclude(Outcome(name, folders[name], "interrupted", 0.0))
        raise
    return [outcomes[task.name] for task in tasks]


def _run_in_workers(
    waiting: deque[Task], folders: dict[str, Path], jobs: int, modules: Sequence[str], whole: _Whole
) -> None:
    # One executor a worker: when a process dies, its executor breaks alone and names the culprit.
    threads = max(1, cpu_count() // jobs)
    idle: list[ProcessPoolExecutor] = []
    running: dict[Future[Outcome], tuple[Task, ProcessPoolExecutor, float]] = {}
    resource_tracker.ensure_running()  # it unmasks signals as it starts, so not inside _no_interrupts
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                executor = idle.pop() if idle else _worker(threads, modules)
                task = waiting.popleft()
                with _no_interrupts():
                    future = executor.submit(_carry_out, task, folders[task.name])
                running[future] = (task, executor, time.monotonic())
                whole.running.append(task.name)
            done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                task, executor, started = running.pop(future)
                try:
                    outcome = future.result()
                    idle.append(executor)
                except Exception as fault:
                    executor.shutdown(kill_workers=True)
                    seconds = time.monotonic() - started
                    outcome = Outcome(task.name, folders[task.name], "failed", seconds, _one_line(fault))
                    _conclude(outcome)
                whole.end(outcome)
            whole.tell()
    finally:
        for executor in idle + [executor for _, executor, _ in running.values()]:
            executor.shutdown(kill_workers=True)


def _worker(threads: int, modules: Sequence[str]) -> ProcessPoolExecutor:
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return ProcessPoolExecutor(max_workers=1, env=environment, initializer=_begin, initargs=(threads, modules))


def _begin(threads: int, modules: Sequence[str]) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    for name in modules:
        importlib.import_module(name)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    # Ctrl-C reaches the whole process group. Workers start inside this block and inherit the closed ears: only the
    # parent decides, stops them, and has them leave without tracebacks. (Windows has no such masks.)
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _carry_out(task: Task, folder: Path, tell: Callable[[], None] | None = None) -> Outcome:
    started = time.monotonic()
    status: Literal["finished", "diverged", "failed"] = "finished"
    error = None
    try:
        task.run(folder, _Reporter(folder, tell))
        if (folder / "record.sqlite").exists():
            with Record.open(folder) as record:
                status = "diverged" if record.status == "diverged" else "finished"
    except (Exception, SystemExit) as fault:
        status, error = "failed", _one_line(fault)
        with contextlib.suppress(OSError):
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    outcome = Outcome(task.name, folder, status, time.monotonic() - started, error)
    _conclude(outcome)
    return outcome


def _conclude(outcome: Outcome) -> None:
    # On a full disk neither can be written; the run is then taken up again by the next --resume, which is right.
    with contextlib.suppress(EdgescopeError, OSError):
        _write(outcome.folder / "outcome.json", asdict(outcome) | {"folder": str(outcome.folder)})
        if outcome.status in ("failed", "interrupted") and (outcome.folder / "record.sqlite").exists():
            with Record.open(outcome.folder) as record:
                if record.status == "running":
                    record.set_status(outcome.status)


def _ended_before(name: str, folder: Path) -> Outcome | None:
    past = _read(folder / "outcome.json")
    if past.get("status") not in ("finished", "diverged"):
        return None
    return Outcome(name, folder, "skipped", float(past.get("seconds", 0.0)))


class _Reporter:
    """What a task calls with its progress: keeps it in a small file in the folder, a few times a second at most."""

    def __init__(self, folder: Path, tell: Callable[[], None] | None) -> None:
        self._path = folder / "progress.json"
        self._tell = tell
        self._next = 0.0

    def __call__(self, fraction: float, text: str = "") -> None:
        now = time.monotonic()
        if now < self._next and fraction < 1:
            return
        self._next = now + POLL_SECONDS
        with contextlib.suppress(OSError):  # progress is not worth a run
            _write(self._path, {"fraction": min(max(float(fraction), 0.0), 1.0), "text": text})
        if self._tell:
            self._tell()


class _Whole:
    """The progress of all tasks together, from the files in their folders."""

    def __init__(
        self,
        tasks: Sequence[Task],
        folders: dict[str, Path],
        outcomes: dict[str, Outcome],
        progress: Callable[[float, str, float | None], None] | None,
    ) -> None:
        self.running: list[str] = []
        self._folders, self._outcomes, self._progress = folders, outcomes, progress
        self._shares = {task.name: task.cost / sum(other.cost for other in tasks) for task in tasks}
        self._fractions = {name: float(name in outcomes) for name in folders}
        self._texts = dict.fromkeys(folders, "")
        self._look(folders)
        self._started, self._before = time.monotonic(), self._done()

    def end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.name] = outcome
        self._fractions[outcome.name] = 1.0
        self.running.remove(outcome.name)
        self.tell()

    def tell(self) -> None:
        if self._progress is None:
            return
        self._look(self.running)
        done, elapsed = self._done(), time.monotonic() - self._started
        # What an earlier sweep did says nothing of the speed of this one.
        left = (1 - done) * elapsed / (done - self._before) if done > self._before else None
        words = [f"{len(self._outcomes)} of {len(self._folders)} runs ended"]
        words += [f"{name} {self._texts[name]}".strip() for name in self.running]
        self._progress(done, "; ".join(words), left)

    def _look(self, names: Any) -> None:
        for name in names:
            seen = _read(self._folders[name] / "progress.json")
            # A resumed run starts again from its last checkpoint, a little before where it was stopped.
            self._fractions[name] = max(self._fractions[name], float(seen.get("fraction", 0.0)))
            self._texts[name] = str(seen.get("text", ""))

    def _done(self) -> float:
        if all(fraction == 1 for fraction in self._fractions.values()):
            return 1.0  # and not a rounding away from it
        return min(1.0, math.fsum(share * self._fractions[name] for name, share in self._shares.items()))


def _check(tasks: Sequence[Task], jobs: int) -> None:
    if jobs < 1:
        raise InputError(f"{jobs} jobs", expected="at least 1")
    seen: set[str] = set()
    for task in tasks:
        if not re.fullmatch(r"[^/\\:\0]+", task.name) or task.name in (".", ".."):
            raise InputError(f"a task named '{task.name}'", expected="a name that a folder can have")
        if task.name in seen:
            raise InputError(f"two tasks are named '{task.name}'", expected="a name of its own for each")
        if not (math.isfinite(task.cost) and task.cost > 0):
            raise InputError(f"task '{task.name}' has the cost {task.cost}", expected="a positive number")
        seen.add(task.name)


def _one_line(fault: BaseException) -> str:
    if isinstance(fault, EdgescopeError):
        return str(fault)
    text = " ".join(str(fault).split())
    if isinstance(fault, TerminatedWorkerError):
        codes = re.search(r"\{(.*?)\}", text)
        how = f" ({codes[1]})" if codes else ""
        return f"its process died{how}; try --resume, with fewer jobs if memory ran out"
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
