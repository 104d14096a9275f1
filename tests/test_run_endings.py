"""How a run ends is in its record: by an exception, by Ctrl-C, by a kill; continued, or refused to a second process."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import torch
from other_process import holding_lock
from warm_process import WarmProcess

import edgescope as es
from edgescope.errors import RecordError
from edgescope.store import Record, latest_checkpoint, save_checkpoint
from edgescope.store.verify import verify
from edgescope.sweep import run
from edgescope.training import RunConfig, train

SMALL = RunConfig(
    data="digits:train=20,test=10",
    model="mlp:widths=4",
    steps=20,
    every=5,
    checkpoint_every=5,
    threads=1,
    path="kept",
    measures=("loss",),
)


def ending(folder: Path) -> tuple[str, list[str]]:
    """The state of a run, and the kinds of its events."""
    with Record.open(folder) as record:
        return record.state, record.events()["kind"].to_list()


def fingerprint(folder: Path) -> str:
    with Record.open(folder) as record:
        return record.fingerprint()


def raising(error: BaseException, share: float = 0.6):  # type: ignore[no-untyped-def]
    def progress(done: float, words: str) -> None:
        if done >= share:
            raise error

    return progress


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("x"), "failed"),
        (MemoryError(), "failed"),
        (SystemExit(3), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_run_that_ends_by_an_exception_and_goes_on(tmp_path: Path, error: BaseException, state: str) -> None:
    train(SMALL, tmp_path / "whole")
    with pytest.raises(type(error)):
        train(SMALL, tmp_path / "run", progress=raising(error))
    assert ending(tmp_path / "run")[0] == state
    with Record.open(tmp_path / "run") as record:
        told = record.events().filter(kind="failed")["text"].to_list()
    assert told == ([f"{type(error).__name__}: {error}".removesuffix(": ")] if state == "failed" else [])
    seen: list[str] = []

    def look(share: float, words: str) -> None:
        seen.append(ending(tmp_path / "run")[0])

    train(SMALL, tmp_path / "run", progress=look, resume=True)
    assert set(seen) == {"running"}
    assert ending(tmp_path / "run") == ("finished", ["failed", "resumed"] if told else ["resumed"])
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


KILLED = """
import os, sys
from test_run_endings import SMALL
from edgescope.training import train
train(SMALL, sys.argv[1], progress=lambda share, words: share < 0.6 or os.kill(os.getpid(), 9))
"""


def test_a_run_that_is_killed_is_not_running_for_ever(tmp_path: Path, users_python: WarmProcess) -> None:
    train(SMALL, tmp_path / "whole")
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    users_python.begin("file", str(tmp_path), str(program), str(tmp_path / "run"))
    assert users_python.code() == -signal.SIGKILL
    assert ending(tmp_path / "run")[0] == "abandoned"
    assert {one.verdict for one in verify(tmp_path / "run")} == {"whole"}
    train(SMALL, tmp_path / "run", resume=True)
    state, kinds = ending(tmp_path / "run")
    assert (state, sorted(kinds)) == ("finished", ["lock", "resumed"])
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_a_second_process_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"):
        train(SMALL, tmp_path / "runs" / "a", progress=raising(ValueError("x")))
    with holding_lock(tmp_path / "runs" / "a") as process:
        before = fingerprint(tmp_path / "runs" / "a")
        with pytest.raises(RecordError, match=rf"is being written by process {process.pid} on \S+ since 2") as caught:
            train(SMALL, tmp_path / "runs" / "a", resume=True)
        assert "\n" not in str(caught.value)
        outcome = run({"a": SMALL, "b": SMALL}, tmp_path, resume=True, batched="never")["a"]
        assert outcome.status == "failed"
        assert f"is being written by process {process.pid}" in str(outcome.error)
        assert fingerprint(tmp_path / "runs" / "a") == before
        assert ending(tmp_path / "runs" / "b")[0] == "finished"
    assert run({"a": SMALL, "b": SMALL}, tmp_path, resume=True, batched="never")["a"].status == "finished"


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted"), (None, "finished")]
)
def test_a_monitor_in_a_loop_of_the_users(tmp_path: Path, error: BaseException | None, state: str) -> None:
    model = torch.nn.Linear(3, 1)
    data = torch.ones(5, 3), torch.ones(5, 1)
    loss_fn = es.supervised(es.losses.half_mse)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop() -> None:
        objective = es.Objective(model, loss_fn, data, threads=1)
        with es.Monitor(objective, optimizer, every=1, measures=["loss"], out=tmp_path / "run") as monitor:
            for _ in range(3):
                optimizer.zero_grad()
                loss_fn(model, data).backward()
                optimizer.step()
                monitor.step()
            assert ending(tmp_path / "run")[0] == "running"
            if error is not None:
                raise error

    if error is None:
        loop()
    else:
        with pytest.raises(type(error)):
            loop()
    assert ending(tmp_path / "run") == (state, ["failed"] if state == "failed" else [])


def test_an_exception_after_a_run_has_diverged(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 1)
    data = torch.ones(5, 3), torch.ones(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = es.Objective(model, es.supervised(es.losses.half_mse), data, threads=1)

    def loop() -> None:
        with es.Monitor(objective, optimizer, every=1, measures=["loss"], out=tmp_path / "run") as monitor:
            monitor.record.set_status("diverged")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        loop()
    assert ending(tmp_path / "run")[0] == "diverged"


def test_checkpoints_saved_at_once_do_not_collide(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def save(number: int) -> None:
        try:
            for step in range(10):
                save_checkpoint(tmp_path, step, {"w": torch.full((2000,), float(step))}, {"by": number}, keep=2)
                found = latest_checkpoint(tmp_path)
                assert found is not None
                assert (found.tensors["w"] == found.step).all()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert {one.verdict for one in verify(tmp_path)} == {"whole"}
    assert [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_monitor_that_goes_on_with_a_record_has_it_running_again(tmp_path: Path) -> None:
    model, data = torch.nn.Linear(3, 1), (torch.ones(5, 3), torch.ones(5, 1))
    loss_fn = es.supervised(es.losses.half_mse)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = es.Objective(model, loss_fn, data, threads=1)

    def steps(monitor: es.Monitor) -> None:
        for _ in range(4):
            optimizer.zero_grad()
            loss_fn(model, data).backward()
            optimizer.step()
            monitor.step()

    first = es.Monitor(objective, optimizer, every=1, measures=["loss"], out=tmp_path / "run")
    steps(first)
    state = first.state()
    first.close("interrupted")
    with Record.open(tmp_path / "run") as record:
        second = es.Monitor(objective, optimizer, every=1, measures=["loss"], record=record)
        second.load_state(state)
        assert record.state == "interrupted", "until a step is taken"
        steps(second)
        assert record.state == "running"
        second.close()
    assert ending(tmp_path / "run") == ("finished", ["resumed"])
    with Record.open(tmp_path / "run") as record:
        assert record.last_step == 8
