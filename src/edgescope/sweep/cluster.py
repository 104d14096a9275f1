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
from typing import Any, Final

import torch
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from edgescope.errors import EdgescopeError, InputError
from edgescope.sweep.processes import begin
from edgescope.sweep.task import Outcome, carry_out_task, conclude, read_json, write_json

REACH_SECONDS: Final = 3.0
"""For somebody to listen at the address."""

CONNECT_SECONDS: Final = 6.0
"""For a scheduler to answer on it."""

STOP_SECONDS: Final = 10.0
"""For runs under way to stop after Ctrl-C, and for those of a sweep that was killed to notice the next one."""

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
            modules=self._modules,
            here=os.getcwd(),
            neighbours={address: hosts.count(worker["host"]) for address, worker in self._workers().items()},
        )
        future: Future[Outcome] = self._executor.submit(_sealed(), cloudpickle.dumps((carry_out_order, order)))
        self._busy.add(future)
        return future

    def __enter__(self) -> Cluster:
        orphans = read_json(self._out / OWNER).get("owner") is not None
        write_json(self._out / OWNER, {"owner": self._owner})
        if orphans:  # a sweep was killed here, and its workers may still be at it
            time.sleep(1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
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
    try:
        from distributed import Client
    except ImportError as fault:
        raise InputError("a cluster needs Dask", hint="pip install 'edgescope[cluster]'") from fault

    class Quiet(Client):  # type: ignore[misc]
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

    ``here`` is the working directory; ``neighbours`` says how many workers share the machine of each.
    """

    task: bytes
    name: str
    folder: Path
    out: Path
    owner: str
    modules: tuple[str, ...]
    here: str
    neighbours: dict[str, int]

    def stop_unless_owned(self) -> None:
        """Called a few times a second by the run."""
        if self.owner_now() != self.owner:
            raise KeyboardInterrupt

    def owner_now(self) -> str | None:
        """Which sweep the runs belong to; where the file cannot be read, nothing is known and nothing stops."""
        return read_json(self.out / OWNER).get("owner", self.owner)

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


def carry_out_order(order: Order) -> Outcome:
    """What a worker does. A worker with several threads still does one run at a time: runs own their process."""
    import cloudpickle
    from distributed import get_worker

    with _ALONE:
        order.claim()
        threads = max(1, cpu_count() // order.neighbours.get(get_worker().address, 1))
        before = torch.get_num_threads()
        if order.here not in sys.path:
            sys.path.insert(0, order.here)
        try:
            with contextlib.chdir(order.here), threadpool_limits(threads):
                begin(threads, order.modules)
                return carry_out_task(cloudpickle.loads(order.task), order.folder, order.stop_unless_owned)
        except KeyboardInterrupt:
            outcome = Outcome(order.name, order.folder, "interrupted", 0.0)
            if order.owner_now() is None:  # otherwise the run is somebody else's by now
                conclude(outcome)
            return outcome
        finally:
            torch.set_num_threads(before)
