"""Worker processes on this machine, each with its share of the cores and of the accelerators."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Final

import torch
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor

from edgescope.allocator import keep_freed_memory
from edgescope.sweep.lifeline import Lifeline, end_with_parent
from edgescope.sweep.task import Outcome, Task, run_task

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Processes:
    """``jobs`` processes with cores // jobs threads each; ``modules`` are imported in each first.

    They end when this process does, however it ends. One executor a process: when a process dies, its executor breaks
    alone and names the culprit.
    """

    lacks = "a process"

    def __init__(self, jobs: int, modules: Sequence[str]) -> None:
        self._jobs, self._modules = jobs, modules
        self._threads = max(1, cpu_count() // jobs)
        self._lifeline = Lifeline()
        self._idle: list[ProcessPoolExecutor] = []
        self._cards: dict[ProcessPoolExecutor, int] = {}
        self._busy: dict[Future[Outcome], ProcessPoolExecutor] = {}

    def room(self) -> int:
        return self._jobs

    def start(self, task: Task, folder: Path) -> Future[Outcome]:
        self._recover()
        executor = self._idle.pop() if self._idle else self._worker()
        with _no_interrupts():
            future: Future[Outcome] = executor.submit(run_task, task, folder)
        self._busy[future] = executor
        return future

    def __enter__(self) -> Processes:
        # loky renews a worker that has come to hold much memory, and tells of it as if something were wrong.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        resource_tracker.ensure_running()  # it unmasks signals as it starts, so not inside _no_interrupts
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for executor in [*self._idle, *self._busy.values()]:
            executor.shutdown(kill_workers=True)
        self._lifeline.close()

    def _recover(self) -> None:
        """Processes whose task has ended are free again; those that died are put away."""
        for future in [future for future in self._busy if future.done()]:
            executor = self._busy.pop(future)
            if future.exception() is None:
                self._idle.append(executor)
            else:
                del self._cards[executor]
                executor.shutdown(kill_workers=True)

    def _worker(self) -> ProcessPoolExecutor:
        environment = dict.fromkeys(THREAD_VARIABLES, str(self._threads))
        # The least number that no process has: those of dead processes are given again, and cards share the load.
        number = next(number for number in itertools.count() if number not in self._cards.values())
        start = (self._lifeline.worker_end, self._threads, self._modules, number)
        executor = ProcessPoolExecutor(max_workers=1, env=environment, initializer=begin_worker, initargs=start)
        self._cards[executor] = number
        return executor


def begin_worker(worker_end: Connection, threads: int, modules: Sequence[str], number: int = 0) -> None:
    """Make a process of ours ready, which ends with its parent."""
    end_with_parent(worker_end)
    use_accelerator(number)
    begin(threads, modules)


def use_accelerator(number: int) -> None:
    """Of several accelerators, make that of a worker's ``number`` the one that a name without an index means.

    ``cuda`` is then another card in each process, in turn, and ``cuda:1`` is the same card in all of them.
    """
    if torch.accelerator.is_available() and (cards := torch.accelerator.device_count()) > 1:
        torch.accelerator.set_device_index(number % cards)


def begin(threads: int, modules: Sequence[str]) -> None:
    """Make a worker ready: its threads, its memory, and what the user's modules register."""
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
