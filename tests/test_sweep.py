"""Tasks side by side: outcomes, order, progress; a failure, a death or Ctrl-C costs only what it must."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from edgescope.errors import InputError, RecordError
from edgescope.store import Record
from edgescope.sweep import run_tasks
from edgescope.sweep import task as pieces

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Work:
    """Counts to ten in its folder, going on from where it was; ``ending`` says what happens half way."""

    name: str
    cost: float = 1.0
    ending: str = ""

    def run(self, folder: Path, progress: Progress) -> None:
        with (folder / "starts").open("a") as file:
            file.write(f"{torch.get_num_threads()}\n")
        state = folder / "state"
        for count in range(int(state.read_text()) if state.exists() else 0, 10):
            progress(count / 10, f"step {count}")
            if count == 5:
                self.turn(folder)
            state.write_text(str(count + 1))
        progress(1.0, "done")

    def turn(self, folder: Path) -> None:
        if self.ending and (folder / "well").exists():
            return
        match self.ending:
            case "diverge":
                with Record.create(folder) as record:
                    record.set_status("diverged")
            case "raise":
                raise ValueError("a bad\n  number")
            case "refuse":
                raise InputError("no such data", hint="another")
            case "exit":
                raise SystemExit(3)
            case "die":
                os._exit(7)
            case "interrupt":
                Record.create(folder).close()
                raise KeyboardInterrupt
            case "wait":
                Record.create(folder).close()
                time.sleep(600)


class Listener:
    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.texts: list[str] = []
        self.left: list[float | None] = []

    def __call__(self, fraction: float, text: str, left: float | None) -> None:
        self.fractions.append(fraction)
        self.texts.append(text)
        self.left.append(left)


def starts(out: Path, name: str) -> int:
    return len((out / "runs" / name / "starts").read_text().split())


def test_outcomes_of_every_kind_in_the_order_given(tmp_path: Path) -> None:
    tasks = [Work("a"), Work("b", 1, "diverge"), Work("c", 1, "raise"), Work("d", 1, "refuse"), Work("e", 1, "exit")]
    outcomes = run_tasks(tasks, tmp_path)
    assert [o.name for o in outcomes] == ["a", "b", "c", "d", "e"]
    assert [o.status for o in outcomes] == ["finished", "diverged", "failed", "failed", "failed"]
    assert [o.error for o in outcomes] == [
        None,
        None,
        "ValueError: a bad number",
        "no such data; try another",
        "SystemExit: 3",
    ]
    assert [o.folder for o in outcomes] == [tmp_path / "runs" / name for name in "abcde"]
    assert all(o.seconds > 0 for o in outcomes)
    assert (tmp_path / "runs" / "a" / "state").read_text() == "10"
    assert "in turn" in (tmp_path / "runs" / "c" / "error.txt").read_text()


def test_costly_tasks_come_first_and_progress_counts_costs_and_never_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "POLL_SECONDS", 0.0)
    listener = Listener()
    run_tasks([Work("small", 1.0), Work("big", 3.0)], tmp_path, progress=listener)
    assert listener.fractions[0] == 0
    assert listener.left[0] is None
    assert listener.fractions == sorted(listener.fractions)
    steps = [0.75 * i / 10 for i in range(11)] + [0.75 + 0.25 * i / 10 for i in range(11)]
    assert sorted(set(listener.fractions)) == pytest.approx(sorted(set(steps)), abs=1e-12)
    assert listener.fractions[-1] == 1.0
    assert listener.left[-1] == 0
    assert [t for t in listener.texts if t.startswith("0 of 2")][-1].startswith("0 of 2 runs ended; big")
    assert listener.texts[-1] == "2 of 2 runs ended"


def test_resume_skips_what_ended_and_continues_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "POLL_SECONDS", 0.0)
    tasks = [Work("a"), Work("b", 1, "raise"), Work("c", 1, "diverge")]
    first = run_tasks(tasks, tmp_path)
    with pytest.raises(RecordError, match=r"already contains runs.*--resume"):
        run_tasks(tasks, tmp_path)
    (tmp_path / "runs" / "b" / "well").touch()
    (tmp_path / "runs" / "b" / "state").write_text("3")  # its last checkpoint, a little before where it failed
    listener = Listener()
    outcomes = run_tasks([*tasks, Work("new")], tmp_path, resume=True, progress=listener)
    assert [o.status for o in outcomes] == ["skipped", "finished", "skipped", "finished"]
    assert outcomes[0].seconds == first[0].seconds
    assert [starts(tmp_path, name) for name in ("a", "b", "c", "new")] == [1, 2, 1, 1]
    assert listener.fractions[0] == (1 + 0.5 + 1) / 4
    assert listener.fractions == sorted(listener.fractions)
    assert listener.left[:4] == [None] * 4  # until it is past where it was
    assert not (tmp_path / "runs" / "b" / "error.txt").exists()


def test_ctrl_c_here_leaves_all_resumable(tmp_path: Path) -> None:
    tasks = [Work("a", 3), Work("b", 2, "interrupt"), Work("c", 1)]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path)
    kept = {name: json.loads((tmp_path / "runs" / name / "outcome.json").read_text())["status"] for name in "abc"}
    assert kept == {"a": "finished", "b": "interrupted", "c": "interrupted"}
    with Record.open(tmp_path / "runs" / "b") as record:
        assert record.status == "interrupted"
    (tmp_path / "runs" / "b" / "well").touch()
    outcomes = run_tasks(tasks, tmp_path, resume=True)
    assert [o.status for o in outcomes] == ["skipped", "finished", "finished"]
    assert starts(tmp_path, "b") == 2


def test_workers_share_the_tasks_and_a_death_costs_one(tmp_path: Path) -> None:
    tasks = [Work("a"), Work("b", 5, "die"), Work("c"), Work("d", 2, "raise"), Work("e")]
    listener = Listener()
    outcomes = run_tasks(tasks, tmp_path, jobs=2, progress=listener)
    assert [o.status for o in outcomes] == ["finished", "failed", "finished", "failed", "finished"]
    assert outcomes[1].error == "its process died (EXIT(7)); try --resume, with fewer jobs if memory ran out"
    assert outcomes[3].error == "ValueError: a bad number"
    assert [starts(tmp_path, name) for name in "abcde"] == [1] * 5
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {(tmp_path / "runs" / name / "starts").read_text() for name in "abcde"} == {f"{threads}\n"}
    assert listener.fractions == sorted(listener.fractions)
    assert listener.fractions[-1] == 1.0
    assert torch.get_num_threads() > 0
    with pytest.raises(RecordError):
        run_tasks(tasks, tmp_path, jobs=2)


def test_ctrl_c_stops_the_workers(tmp_path: Path) -> None:
    tasks = [Work("a", 2, "wait"), Work("b", 1, "wait"), Work("c", 0.5)]
    waiting = [tmp_path / "runs" / name / "record.sqlite" for name in "ab"]

    def press() -> None:
        patience = time.monotonic() + 60
        while not all(path.exists() for path in waiting) and time.monotonic() < patience:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path, jobs=2)
    for name in "ab":
        with Record.open(tmp_path / "runs" / name) as record:
            assert record.status == "interrupted"
            record.append(0, [])  # nobody else writes
    assert not (tmp_path / "runs" / "c" / "starts").exists()


def test_bad_input(tmp_path: Path) -> None:
    cases = {
        "jobs=0": ([Work("a")], 0),
        "two tasks are named 'a'": ([Work("a"), Work("a")], 1),
        "named '../a'": ([Work("../a")], 1),
        "named ''": ([Work("")], 1),
        "task 'a' has the cost nan": ([Work("a", float("nan"))], 1),
        "task 'a' has the cost 0": ([Work("a", 0)], 1),
    }
    for message, (tasks, jobs) in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            run_tasks(tasks, tmp_path, jobs=jobs)
        assert "\n" not in str(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot read or write"):
        run_tasks([Work("a")], tmp_path / "file")
    assert run_tasks([], tmp_path) == []
