"""The workers of a running Dask scheduler, which see the same files at the same paths."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import torch
from joblib import cpu_count

from edgescope import description
from edgescope.errors import EdgescopeError, InputError
from edgescope.extras import load, require
from edgescope.store.lock import Holder, holder_of, time_of
from edgescope.sweep.processes import begin
from edgescope.sweep.task import Outcome, conclude, read_json, run_task, write_json

REACH_SECONDS: Final = 3.0
"""For somebody to listen at the address."""

CONNECT_SECONDS: Final = 6.0
"""For a scheduler to answer on it."""

STOP_SECONDS: Final = 10.0
"""For runs under way to stop after Ctrl-C."""

LOCK: Final = description.OWNER
"""In the same folder, with the process of that sweep: a run whose sweep was killed stops too."""

OWNER: Final = "cluster.json"
"""In the folder of the sweep: which sweep its runs belong to. A run that finds another one there stops."""

_ALONE = threading.Lock()


class Cluster:
    """One task at a time on every worker process, with the worker's share of its machine's cores.

    A worker that dies costs its run alone: Dask would begin the run again elsewhere, and a run that kills its worker
    would so kill all, one after the other; it is failed instead, and ``resume`` continues it.
    """

    lacks = "workers of the cluster"

    def __init__(self, address: str, out: Path, modules: Sequence[str]) -> None:
        self._address, self._out, self._modules = address, out, tuple(modules)
        self._client = connected(address)
        self._executor = self._client.get_executor(pure=False)
        self._owner = uuid.uuid4().hex
        self._keeper: Holder | None = None
        self._busy: set[Future[Outcome]] = set()

    def room(self) -> int:
        return len(self._workers())

    def start(self, task: Any, folder: Path) -> Future[Outcome]:
        import cloudpickle

        hosts = [worker["host"] for worker in self._workers().values()]
        order = Order(
            task=cloudpickle.dumps(task),
            name=task.name,
            folder=folder,
            out=self._out,
            owner=self._owner,
            keeper=self._keeper,
            modules=self._modules,
            here=os.getcwd(),
            neighbours={address: hosts.count(worker["host"]) for address, worker in self._workers().items()},
        )
        future: Future[Outcome] = self._executor.submit(_sealed(), cloudpickle.dumps((run_order, order)))
        self._busy.add(future)
        return future

    def __enter__(self) -> Cluster:
        write_json(self._out / OWNER, {"owner": self._owner})
        self._keeper = holder_of(self._out, LOCK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(EdgescopeError):
            write_json(self._out / OWNER, {"owner": None})
        for future in self._busy:
            future.cancel()
        wait(self._busy, timeout=STOP_SECONDS if kind is not None else 0)
        self._client.close()

    def _workers(self) -> dict[str, Any]:
        try:
            return dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError) as fault:
            raise EdgescopeError(
                f"the Dask scheduler at {self._address} no longer answers", hint="--resume once it runs again"
            ) from fault


def connected(address: str) -> Any:
    """A client of the scheduler at ``address``; :class:`InputError` where none answers within seconds."""
    refusal = InputError(
        f"no Dask scheduler answers at {address}",
        expected="the address of a running one, such as tcp://127.0.0.1:8786",
        hint="'dask scheduler' to start one",
    )
    if plain := re.fullmatch(r"(?:tcp|tls)://\[?([^\[\]]+)\]?:(\d+)/?", address):
        _wait_for(plain[1], int(plain[2]), refusal)  # Dask tries for as long as for a slow answer
    require("cluster", "a cluster needs", "distributed", "threadpoolctl")
    from distributed import Client

    class Quiet(Client):
        def __del__(self) -> None:
            """We close what we open; a client that never came to be would wait here, and complain."""

    try:
        return Quiet(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as fault:  # what listens there may be no scheduler, and answer anything
        raise refusal from fault


def _wait_for(host: str, port: int, refusal: InputError) -> None:
    """Until somebody listens there, as a scheduler does that was started just now; else ``refusal``."""
    until = time.monotonic() + REACH_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), REACH_SECONDS).close()
        except (OSError, OverflowError) as fault:
            if time.monotonic() > until:
                raise refusal from fault
            time.sleep(0.1)


def _sealed() -> Callable[[bytes], Outcome]:
    """What opens an order on a worker. As an inner function it travels by value, and the order as bytes, so that the
    scheduler, which opens what it passes on, need not import any of this."""

    def opened(sealed: bytes) -> Outcome:
        import cloudpickle

        function, order = cloudpickle.loads(sealed)
        return function(order)

    return opened


@dataclass(frozen=True)
class Order:
    """A task for a worker. It is pickled by itself: what it consists of may be known only once ``modules`` are there.

    ``keeper`` is the process of the sweep, by its lock on ``out``. ``here`` is the working directory; ``neighbours``
    says how many workers share the machine of each.
    """

    task: bytes
    name: str
    folder: Path
    out: Path
    owner: str
    keeper: Holder | None
    modules: tuple[str, ...]
    here: str
    neighbours: dict[str, int]

    def stop_unless_owned(self) -> None:
        """Called a few times a second by the run."""
        if self.belongs_to() != "us":
            raise KeyboardInterrupt

    def belongs_to(self) -> Literal["us", "nobody", "another"]:
        """Whose the runs are: nobody's where the process of the sweep has ended, by itself or killed.

        Where the files that say so cannot be read, nothing is known and they are ours.
        """
        owner = read_json(self.out / OWNER).get("owner", self.owner)
        if owner not in (self.owner, None):
            return "another"
        holder = None
        with contextlib.suppress(OSError):
            holder = holder_of(self.out, LOCK)
        if self.keeper is not None and holder is not None and holder.pid:
            if _process_of(holder) != _process_of(self.keeper):
                return "another"
            # Before a lock counts as left it is looked at by the clock of the file system: ours may be wrong.
            if not holder.alive and not _alive_by_clock_of_files(self.out):
                return "nobody"
        return "nobody" if owner is None else "us"

    def claim(self) -> None:
        """Say that the run was begun; refuse where this sweep had it begun before, on a worker that is no more."""
        if not self.folder.is_dir():
            raise InputError(
                f"a worker on {socket.gethostname()} does not see {self.folder}",
                expected="a folder that all workers share",
            )
        if read_json(self.folder / "begun.json").get("by") == self.owner:
            raise EdgescopeError("its worker died", hint="--resume, with more memory if that ran out")
        write_json(self.folder / "begun.json", {"by": self.owner})


def _process_of(holder: Holder) -> tuple[int, str, str]:
    return holder.pid, holder.machine, holder.start


def _alive_by_clock_of_files(folder: Path) -> bool:
    try:
        holder = holder_of(folder, LOCK, time_of(folder))
    except OSError:
        return True
    return holder is None or holder.alive


def run_order(order: Order) -> Outcome:
    """What a worker does. A worker with several threads still does one run at a time: runs own their process."""
    import cloudpickle
    from distributed import get_worker

    with _ALONE:
        if order.belongs_to() != "us":  # it waited here for longer than its sweep lived
            return Outcome(order.name, order.folder, "interrupted", 0.0)
        order.claim()
        threads = max(1, cpu_count() // order.neighbours.get(get_worker().address, 1))
        before = torch.get_num_threads()
        if order.here not in sys.path:
            sys.path.insert(0, order.here)
        try:
            with contextlib.chdir(order.here), load("threadpoolctl").threadpool_limits(threads):
                begin(threads, order.modules)
                return run_task(cloudpickle.loads(order.task), order.folder, order.stop_unless_owned)
        except KeyboardInterrupt:
            outcome = Outcome(order.name, order.folder, "interrupted", 0.0)
            if order.belongs_to() == "nobody":
                conclude(outcome)
            return outcome
        finally:
            torch.set_num_threads(before)
