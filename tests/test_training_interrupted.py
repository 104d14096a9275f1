"""Training runs that are killed, interrupted or damaged, and continue bit for bit."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SMALL, small
from warm_process import WarmProcess

from edgescope.data import DATA
from edgescope.errors import EdgescopeWarning
from edgescope.losses import half_mse, supervised
from edgescope.models import MODELS
from edgescope.objective import Objective
from edgescope.store import Record, latest_checkpoint
from edgescope.training import train


def fingerprint(folder: Path) -> str:
    with Record.open(folder) as record:
        return record.fingerprint()


RUNS: dict[str, dict[str, Any]] = {
    "full batch": {"optimizer": "sgd:momentum=0.9", "lr": 0.05},
    "flow": {"optimizer": "gradient-flow"},
    "batches": {"model": "all-that-moves", "optimizer": "adam", "lr": 0.01, "batch": 16},
}
RUNS = {name: changes | {"steps": 12, "every": 3, "checkpoint_every": 4} for name, changes in RUNS.items()}

# Each child kills itself at the call of some function, drawn from all calls of a whole run.
KILLED = """
import os, random, signal, sys, warnings
from pathlib import Path
from small_runs import small
from test_training_interrupted import RUNS
from edgescope.training import train

def train_counting(config, folder, fatal=None):
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.settrace(count)
    train(config, folder, resume=True)
    sys.settrace(None)
    return calls

warnings.simplefilter("ignore")
chance = random.Random(7)
for name, changes in RUNS.items():
    config, kills = small(**changes), 0
    train(config, Path(sys.argv[1], "first", name))  # which loads what is loaded on first use
    calls = train_counting(config, Path(sys.argv[1], "undisturbed", name))
    while True:
        fatal = int(calls * chance.uniform(0.2, 0.8)) if kills < 2 else None
        child = os.fork()
        if child == 0:
            train_counting(config, Path(sys.argv[1], "killed", name), fatal)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(kills, os.WEXITSTATUS(status))
"""


@pytest.mark.slow
def test_runs_killed_again_and_again_end_in_the_same_record(tmp_path: Path, users_python: WarmProcess) -> None:
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    said = users_python.run("file", str(tmp_path), str(program), str(tmp_path))
    for name, line in zip(RUNS, said.splitlines(), strict=True):
        kills, code = map(int, line.split())
        assert (kills > 0, code) == (True, 0), said
        killed, undisturbed = tmp_path / "killed" / name, tmp_path / "undisturbed" / name
        assert fingerprint(killed) == fingerprint(undisturbed)
        a, b = latest_checkpoint(killed), latest_checkpoint(undisturbed)
        assert a is not None
        assert b is not None
        assert all(torch.equal(a.tensors[key], tensor) for key, tensor in b.tensors.items())
        with Record.open(killed) as record:
            assert "resumed" in record.events()["kind"]


@pytest.mark.parametrize("step", [10, 12, 13])
def test_ctrl_c_ends_after_the_step_and_the_run_continues_to_the_same_record(step: int, tmp_path: Path) -> None:
    def press(share: float, words: str) -> None:
        if words.startswith(f"step {step},"):
            os.kill(os.getpid(), signal.SIGINT)

    config = small(every=3)
    train(config, tmp_path / "undisturbed")
    result = train(config, tmp_path / "run", press)
    assert (result.status, result.steps) == ("interrupted", step)
    with Record.open(tmp_path / "run") as record:
        assert record.status == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train(config, tmp_path / "run", resume=True).status == "finished"
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "undisturbed")
    with Record.open(tmp_path / "run") as record:
        assert list(record.events()["kind"]) == ["interrupted", "resumed"]


def test_a_second_ctrl_c_ends_at_once_and_the_run_continues_from_the_last_checkpoint(tmp_path: Path) -> None:
    def press(share: float, words: str) -> None:
        if words.startswith("step 13,"):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    train(SMALL, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path / "run", press)
    with Record.open(tmp_path / "run") as record:
        assert record.status == "interrupted"
    train(SMALL, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "undisturbed")


def test_a_run_in_another_thread_leaves_ctrl_c_alone(tmp_path: Path) -> None:
    results: list[Any] = []
    worker = threading.Thread(target=lambda: results.append(train(small(steps=2), tmp_path)))
    worker.start()
    worker.join()
    assert results[0].status == "finished"


def test_a_broken_checkpoint_is_passed_over(tmp_path: Path) -> None:
    def die(share: float, words: str) -> None:
        if words.startswith("step 23,"):
            raise OSError("no more")

    train(SMALL, tmp_path / "undisturbed")
    with pytest.raises(OSError, match="no more"):
        train(SMALL, tmp_path / "run", die)
    with Record.open(tmp_path / "run") as record:
        assert record.status == "failed"
    newest = latest_checkpoint(tmp_path / "run")
    assert newest is not None
    assert newest.step == 20
    newest.path.write_bytes(newest.path.read_bytes()[:-10])
    with pytest.warns(EdgescopeWarning, match=r"damaged: step-0000000020\.safetensors; step-0000000010.* was taken"):
        train(SMALL, tmp_path / "run", resume=True)
    with Record.open(tmp_path / "run") as record:
        (event,) = record.events().filter(kind="checkpoint").rows(named=True)
        assert (event["step"], "step-0000000020" in event["text"]) == (10, True)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "undisturbed")


def test_path_and_threads_of_the_first_start_are_kept(tmp_path: Path) -> None:
    config = small(path=None, threads=None, steps=12)

    def press(share: float, words: str) -> None:
        if words.startswith("step 5,"):
            signal.raise_signal(signal.SIGINT)

    train(config, tmp_path, press)
    with Record.open(tmp_path) as record:
        assert record.info["plan"].keys() == {"path", "threads"}
        record.set_info("plan", {"path": "rebuilt", "threads": 1})  # what nothing would choose
    train(config, tmp_path, resume=True)
    with Record.open(tmp_path) as record:
        assert record.info["plan"] == {"path": "rebuilt", "threads": 1}


@pytest.mark.parametrize(
    "model", ["mlp:widths=6", "cnn:channels=2x2", "resnet:widths=4,blocks=1", "vit:width=8,depth=1"]
)
def test_a_gradient_has_the_same_bits_whether_or_not_a_product_came_first(model: str) -> None:
    """What a run interrupted just after a measurement, and resumed without its cache, relies on."""
    data = DATA.build("digits", train=40, test=10).load()
    network = MODELS.build(model).build(data.input_shape, data.classes, 0)
    objective = Objective(network, supervised(half_mse), (data.inputs, data.targets), path="kept", threads=1)
    fresh = objective.gradient(), objective.loss()
    objective.release()
    objective.hvp(torch.ones(objective.size))
    assert torch.equal(objective.gradient(), fresh[0])
    assert torch.equal(objective.loss(), fresh[1])
