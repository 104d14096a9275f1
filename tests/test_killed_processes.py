"""Commands and workers killed at random moments: nobody is left, nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from warm_process import WarmProcess

from edgescope.store import Record
from edgescope.store.verify import verify

MOMENTS = 10
"""How often workers are killed."""

TRAIN = (
    *("train", "--data", "digits:train=20,test=10", "--model", "mlp:widths=4", "--lr", "0.1", "--steps", "60"),
    *("--every", "2", "--threads", "1", "--path", "kept", "--measures", "loss", "norms@end", "--checkpoint-every", "7"),
)
SWEEP = (
    *("sweep", "own_run:make_run", "--lr", "0.1,0.2", "--steps", "30"),
    *("--threads", "1", "--path", "kept", "--stop-loss", "0.2"),
)
STUDY = ("run", "tiny")


class Commands(WarmProcess):
    """The process that carries out commands, and the one under way."""

    def started(self, kind: str, *arguments: str) -> psutil.Process:
        return psutil.Process(self.begin(kind, *arguments))

    def seconds(self, *arguments: str) -> float:
        """Carry out a command undisturbed; the seconds it took."""
        began = time.monotonic()
        self.run("cli", *arguments)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    server = Path(__file__).parent / "killed_processes.py"
    made = Commands(server, tmp_path_factory.mktemp("said") / "said.txt")
    yield made
    made.close()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still live after some seconds, in which the system may put them away."""
    return [p for p in psutil.wait_procs(processes, timeout=15)[1] if p.status() != psutil.STATUS_ZOMBIE]


def records(folder: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for path in sorted(folder.rglob("record.sqlite")):
        if path.parent.name.endswith(".part"):  # what a killed process had not finished writing aside
            continue
        with Record.open(path.parent) as record:
            found[str(path.parent.relative_to(folder))] = record.state, record.fingerprint()
    return found


def again(command: tuple[str, ...], out: Path) -> tuple[str, ...]:
    return (*command, "--out", str(out), *(("--resume",) if begun(command, out) else ()))


def begun(command: tuple[str, ...], out: Path) -> bool:
    return (out / {"train": "record.sqlite", "run": "study.json", "sweep": "sweep.json"}[command[0]]).exists()


@pytest.mark.parametrize(
    ("command", "moments"),
    [
        (TRAIN, 3),
        *(
            pytest.param(command, moments, marks=pytest.mark.slow)
            for command, moments in ((TRAIN, 12), ((*STUDY, "--jobs", "1"), 10), ((*SWEEP, "--jobs", "1"), 3))
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_commands_killed_at_random_moments(
    command: tuple[str, ...], moments: int, commands: Commands, tmp_path: Path
) -> None:
    lasts = commands.seconds(*command, "--out", str(tmp_path / "whole"))
    whole = records(tmp_path / "whole")
    chance = random.Random(command[0])
    killed = number = 0
    while killed < moments:
        out = tmp_path / str(number)
        process = commands.started("cli", *again(command, out))
        time.sleep(chance.uniform(0, lasts))
        tree = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            tree += process.children(recursive=True)
            process.kill()
        code = commands.code()
        if code == -signal.SIGKILL:
            killed += 1
            assert not alive(tree)
            assert not out.exists() or {one.verdict for one in verify(out)} <= {"whole"}
            assert "running" not in {state for state, _ in records(out).values()}
        else:
            assert code == 0, commands.said.read_text()[-2000:]
            assert records(out) == whole
            number += 1
    commands.seconds(*again(command, tmp_path / str(number)))
    assert records(tmp_path / str(number)) == whole


@pytest.mark.slow
def test_a_report_killed_at_random_moments(commands: Commands, tmp_path: Path) -> None:
    commands.seconds(*STUDY, "--jobs", "1", "--out", str(tmp_path / "s"))
    whole, chance = records(tmp_path / "s"), random.Random("report")
    kept = {name: (tmp_path / "s" / name).read_bytes() for name in ("findings.json", "report.html")}
    lasts = commands.seconds("report", str(tmp_path / "s"))
    killed = 0
    while killed < MOMENTS:
        process = commands.started("cli", "report", str(tmp_path / "s"))
        time.sleep(chance.uniform(0, lasts))
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        killed += commands.code() == -signal.SIGKILL
        assert {name: (tmp_path / "s" / name).read_bytes() for name in kept} == kept
    commands.seconds("report", str(tmp_path / "s"))
    assert records(tmp_path / "s") == whole
    assert not [path for path in (tmp_path / "s").rglob("*.part") if path.parent == tmp_path / "s"]


def lines(out: Path) -> dict[str, list[tuple[int, int]]]:
    """What the tasks of :class:`killed_processes.Slow` say: the process and the count, line by line."""
    found = {}
    for path in sorted(out.glob("runs/*/lines")):
        said = [line.split() for line in path.read_text().splitlines()]
        found[path.parent.name] = [(int(pid), int(count)) for pid, count in said]
    return found


@pytest.mark.slow
def test_workers_killed_at_random_moments(commands: Commands, tmp_path: Path) -> None:
    chance = random.Random("worker")
    killed, tree = 0, set()
    while True:
        parent = commands.started("tasks", str(tmp_path / "s"), str(MOMENTS), "2", "forked")
        while killed < MOMENTS and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(chance.uniform(0.0, 0.4))
            with_lines = {pid for said in lines(tmp_path / "s").values() for pid, _ in said}
            try:
                tree.update(parent.children(recursive=True))
                workers = [p for p in parent.children(recursive=True) if p.pid in with_lines]
                if workers:
                    chance.choice(workers).kill()
                    killed += 1
            except psutil.NoSuchProcess:
                continue
        failed = commands.code()
        assert not alive(list(tree))
        if not failed and killed >= MOMENTS:
            break
        if not failed:  # all is done before enough were killed: once more from the start
            check_counts(tmp_path / "s", MOMENTS)
            (tmp_path / "s").rename(tmp_path / f"done{killed}")
    check_counts(tmp_path / "s", MOMENTS)


def check_counts(out: Path, tasks: int) -> None:
    """Each task has counted once from 0 to the end, one process after the other."""
    found = lines(out)
    assert len(found) == tasks
    for said in found.values():
        assert [count for _, count in said] == list(range(30))
        pids = [pid for pid, _ in said]
        assert len(set(pids)) == 1 + sum(a != b for a, b in itertools.pairwise(pids))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: int, commands: Commands, tmp_path: Path) -> None:
    chance = random.Random(int(number))
    parent = commands.started("tasks", str(tmp_path / "s"), "8", "2", "")
    before = lines(tmp_path / "s")
    until = time.monotonic() + 120
    while lines(tmp_path / "s") == before:
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.3))
    tree = [parent, *parent.children(recursive=True)]
    assert len(tree) > 2
    parent.send_signal(number)
    assert commands.code() == -number
    assert not alive(tree)
    after = lines(tmp_path / "s")
    time.sleep(0.2)
    assert lines(tmp_path / "s") == after
    commands.started("tasks", str(tmp_path / "s"), "8", "1", "")
    assert commands.code() == 0
    check_counts(tmp_path / "s", 8)


@pytest.mark.parametrize("command", [STUDY, pytest.param(SWEEP, marks=pytest.mark.slow)], ids=lambda c: c[0])
def test_a_second_start_is_refused_by_a_line_that_names_the_first(
    command: tuple[str, ...], commands: Commands, tmp_path: Path
) -> None:
    from edgescope.store.lock import RunLock
    from edgescope.sweep.owner import OWNER

    commands.seconds(*command, "--jobs", "1", "--out", str(tmp_path / "s"))
    whole = records(tmp_path / "s")
    lock = RunLock(tmp_path / "s", OWNER)
    try:
        for more in ((), ("--resume",)):
            commands.said.write_text("")
            commands.started("cli", *command, "--jobs", "1", "--out", str(tmp_path / "s"), *more)
            assert commands.code() == 2
            said = commands.said.read_text().splitlines()
            assert len(said) == 1
            assert f"{tmp_path / 's'} is being written by process {os.getpid()} on " in said[0]
    finally:
        lock.release()
    commands.seconds(*command, "--jobs", "1", "--out", str(tmp_path / "s"), "--resume")
    assert records(tmp_path / "s") == whole
