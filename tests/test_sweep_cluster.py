"""Tasks on a real Dask scheduler with two worker processes on loopback: what a worker's death or a stranger costs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from edgescope.errors import InputError, RecordError
from edgescope.store import Record
from edgescope.sweep import run_tasks
from edgescope.sweep.cluster import OWNER, Order
from edgescope.sweep.task import read_json, write_json

ROOT = Path(__file__).parent
QUIET = {"DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "0", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Work:
    """Counts to five in its folder, going on from where it was; ``ending`` says what happens at three."""

    name: str
    cost: float = 1.0
    ending: str = ""

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        state = folder / "state"
        with (folder / "starts").open("a") as file:
            file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
        for count in range(int(state.read_text()) if state.exists() else 0, 5):
            time.sleep(0.05)
            progress(count / 5, f"step {count}")
            if count == 3 and self.ending and not (folder / "well").exists():
                if self.ending == "die":
                    os._exit(7)
                if self.ending == "raise":
                    raise ValueError("a bad number")
                if self.ending == "wait":
                    Record.create(folder).close()
                    while True:
                        time.sleep(0.05)
                        progress(0.6, "waiting")
            state.write_text(str(count + 1))
        progress(1.0, "done")


# However this process ends, even killed: its end of the pipe closes, and with it the child.
LIFELINE = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", LIFELINE, f"distributed.cli.{program}", *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler on loopback with two workers of one process each; all ended afterwards, whatever
    happens."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    host = ("--host", "127.0.0.1", "--no-dashboard")
    processes = [start("dask_scheduler", *host, "--port", address.rpartition(":")[2])]
    try:
        _listening(address, processes[0])
        for number in range(2):
            own = ("--nthreads", "1", "--no-nanny", "--local-directory", str(folder / str(number)))
            processes.append(start("dask_worker", address, *host, *own))
        yield address
    finally:
        for process in processes:
            process.kill()
            process.stdin.close()  # type: ignore[union-attr]
        for process in processes:
            process.wait(timeout=20)


def _listening(address: str, scheduler: subprocess.Popen[bytes]) -> None:
    """Wait until the scheduler takes connections, however long a busy machine needs to start it."""
    host, port = address.removeprefix("tcp://").split(":")
    while scheduler.poll() is None:
        with contextlib.suppress(OSError):
            return socket.create_connection((host, int(port))).close()
        time.sleep(0.05)
    raise RuntimeError("the scheduler ended before it listened")


def lines(out: Path, name: str) -> list[list[str]]:
    return [line.split() for line in (out / "runs" / name / "starts").read_text().splitlines()]


def test_ctrl_c_stops_the_runs_on_the_workers(cluster: str, tmp_path: Path) -> None:
    tasks = [Work("a", 3, "wait"), Work("b", 2, "wait")]

    def listen(fraction: float, words: str, left: float | None) -> None:
        if all((tmp_path / "runs" / name / "record.sqlite").exists() for name in "ab"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path, cluster=cluster, progress=listen)
    for name in "ab":
        assert read_json(tmp_path / "runs" / name / "outcome.json")["status"] == "interrupted"
        _until(lambda run=tmp_path / "runs" / name: status(run) == "interrupted")  # type: ignore[misc]
        (tmp_path / "runs" / name / "well").touch()
    # The workers are free again, and continue from where they were.
    outcomes = run_tasks(tasks, tmp_path, cluster=cluster, resume=True)
    assert [o.status for o in outcomes] == ["finished", "finished"]
    assert [(tmp_path / "runs" / name / "state").read_text() for name in "ab"] == ["5", "5"]


def test_the_death_of_a_worker_costs_one_run(cluster: str, tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    tasks = [Work("a"), Work("b", 5, "die"), Work("c"), Work("d", 2, "raise"), Work("e")]
    outcomes = run_tasks(tasks, tmp_path, cluster=cluster, progress=lambda f, words, left: seen.append((f, words)))
    assert [o.status for o in outcomes] == ["finished", "failed", "finished", "failed", "finished"]
    assert outcomes[1].error == "its worker died; try --resume, with more memory if that ran out"
    assert outcomes[3].error == "ValueError: a bad number"
    starts = {name: lines(tmp_path, name) for name in "abcde"}
    assert [len(starts[name]) for name in "abcde"] == [1] * 5
    processes = {pid for started in starts.values() for pid, _ in started}
    assert len(processes) > 1
    assert str(os.getpid()) not in processes
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {int(threads) for name in "ab" for _, threads in starts[name]} <= {share, len(os.sched_getaffinity(0))}
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    (tmp_path / "runs" / "b" / "well").touch()
    again = run_tasks(tasks[:3], tmp_path, cluster=cluster, resume=True)
    assert [o.status for o in again] == ["skipped", "finished", "skipped"]
    assert (tmp_path / "runs" / "b" / "state").read_text() == "5"


SWEEP = """
import sys
from test_sweep_cluster import Work, run_tasks
run_tasks([Work("a", 1, "wait")], sys.argv[1], cluster=sys.argv[2])
"""


def test_the_runs_of_a_sweep_that_was_killed_stop(cluster: str, tmp_path: Path) -> None:
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    sweep = subprocess.Popen([sys.executable, "-c", SWEEP, str(tmp_path), cluster], env=environment)
    run = tmp_path / "runs" / "a"
    try:
        _until(lambda: (run / "record.sqlite").exists())
        with pytest.raises(RecordError, match=rf"is being written by process {sweep.pid} on "):
            run_tasks([Work("a", 1, "wait")], tmp_path, resume=True)
    finally:
        sweep.kill()
        sweep.wait()
    _until(lambda: read_json(run / "outcome.json").get("status") == "interrupted")
    _until(lambda: status(run) == "interrupted")
    (run / "well").touch()
    assert [o.status for o in run_tasks([Work("a", 1, "wait")], tmp_path, cluster=cluster, resume=True)] == ["finished"]


def status(run: Path) -> str:
    with Record.open(run) as record:
        return record.status


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_SECONDS", "REACH_SECONDS"):
        monkeypatch.setattr(f"edgescope.sweep.cluster.{name}", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        for address in (f"tcp://127.0.0.1:{deaf.getsockname()[1]}", "nowhere://x", "tcp://127.0.0.1:99999"):
            with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}") as caught:
                run_tasks([Work("a")], tmp_path / "new", cluster=address)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_run_stops_where_its_sweep_is_no_more(tmp_path: Path) -> None:
    order = Order(b"", "a", tmp_path / "a", tmp_path, "mine", None, (), str(tmp_path), {})
    with pytest.raises(InputError, match="does not see"):
        order.claim()
    (tmp_path / "a").mkdir()
    order.claim()
    order.stop_unless_owned()  # nothing is known
    write_json(tmp_path / OWNER, {"owner": "mine"})
    order.stop_unless_owned()
    for other in ("another's", None):
        write_json(tmp_path / OWNER, {"owner": other})
        with pytest.raises(KeyboardInterrupt):
            order.stop_unless_owned()


def test_progress_says_that_workers_are_awaited(tmp_path: Path) -> None:
    from edgescope.sweep.sweep_progress import SweepProgress

    said: list[str] = []
    overall = SweepProgress([Work("a")], {"a": tmp_path}, {}, lambda fraction, words, left: said.append(words))
    overall.waiting_for = "workers of the cluster"
    threading.Thread(target=overall.tell).run()
    assert said == ["0 of 1 runs ended; waiting for workers of the cluster"]
