"""A writer killed at any moment, or stopped by the system, loses nothing it had committed; others read meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgescope.store import Record

# One process that forks a writer for every line it is given ("folder limit"), so that the imports are paid once. What
# it says is written in one piece, line end included: an unbuffered `print` makes two of it, a kill falls between.
WRITERS = """
import os, resource, signal, sys
import numpy as np
from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record
def say(what):
    sys.stdout.write(f"{what}\\n")
    sys.stdout.flush()
for line in sys.stdin:
    folder, limit = line.split()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        say("over")
        continue
    record = Record.create(folder, command="")
    say(os.getpid())
    if int(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    step = 0
    while True:
        arrays = {"": np.full(2000, float(step))}
        readings = [Reading("a", {"1": step, "2": -step}, arrays=arrays), Reading("b", {"": step})]
        try:
            record.append(step, readings, events=[("stopped", str(step))])
        except RecordError as error:
            say(error)
            os._exit(1)
        say(step)
        step += 1
"""


class Writer:
    """A process that appends step after step to the record in ``folder`` and says each one when it is committed."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, limit: int = 0) -> None:
        assert process.stdin
        assert process.stdout
        self.lines = process.stdout
        process.stdin.write(f"{folder} {limit}\n")
        process.stdin.flush()
        self.pid = int(self.lines.readline())

    def line(self) -> str:
        line = self.lines.readline()
        assert line, "the writers are gone"
        return line.strip()

    def rest(self) -> list[str]:
        return list(iter(self.line, "over"))


@pytest.fixture(scope="module")
def writer() -> Iterator[Callable[..., Writer]]:
    process = subprocess.Popen([sys.executable, "-c", WRITERS], stdin=-1, stdout=-1, text=True, start_new_session=True)
    yield lambda *arguments: Writer(process, *arguments)
    os.killpg(process.pid, signal.SIGKILL)  # with the writer that a failed test has left behind
    process.communicate()


def check_whole(record: Record, committed: int) -> None:
    assert record.last_step in (committed, committed + 1)  # the last one may have been killed before it could say so
    steps = list(range(record.last_step + 1))
    for measure, part, sign in (("a", "1", 1), ("a", "2", -1), ("b", "", 1)):
        kept, values = record.series(measure, part)
        assert kept.tolist() == steps
        assert values.tolist() == [sign * step for step in steps]
    for step in steps:
        assert np.array_equal(record.array(step, "a"), np.full(2000, float(step)))
    assert record.events()["text"].to_list() == [str(step) for step in steps]


def test_killed_at_random_moments(tmp_path: Path, writer: Callable[..., Writer]) -> None:
    chance = random.Random(0)
    for folder in (tmp_path / str(i) for i in range(20)):
        child = writer(folder)
        printed = [child.line() for _ in range(chance.randrange(1, 40))]
        time.sleep(chance.random() * 2e-3)
        os.kill(child.pid, signal.SIGKILL)
        printed += child.rest()
        with Record.open(folder) as record:
            check_whole(record, int(printed[-1]))
            record.append(record.last_step + 1, [])  # and it can be continued


def test_a_file_that_the_system_stops_from_growing(tmp_path: Path, writer: Callable[..., Writer]) -> None:
    *steps, message = writer(tmp_path / "run", 300_000).rest()
    assert "what was committed before is kept" in message
    assert len(steps) > 3
    with Record.open(tmp_path / "run") as record:
        assert record.last_step == int(steps[-1])
        check_whole(record, int(steps[-1]))


def test_read_while_another_process_writes(tmp_path: Path, writer: Callable[..., Writer]) -> None:
    child = writer(tmp_path / "run")
    child.line()
    seen = []
    with Record.open(tmp_path / "run") as record:
        for _ in range(30):
            table = record.wide()
            assert table["step"].to_list() == list(range(len(table)))
            assert table["a/1"].to_list() == table["b"].to_list() == table["step"].to_list()
            seen.append(len(table))
            for _ in range(10):
                child.line()
    os.kill(child.pid, signal.SIGKILL)
    child.rest()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
