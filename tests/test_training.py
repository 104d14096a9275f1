"""Training runs from a configuration: what they compute, how they end, and that they continue bit for bit."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgescope.data import DATA
from edgescope.errors import EdgescopeError, EdgescopeWarning, InputError, RecordError, UnknownNameError
from edgescope.losses import half_mse, supervised
from edgescope.models import MODELS, ModelConfig
from edgescope.objective import Objective
from edgescope.store import Record, latest_checkpoint, rng_state
from edgescope.training import RunConfig, train


@dataclass(frozen=True)
class AllThatMoves(ModelConfig):
    """A network with running statistics, which draws from torch's generator and from NumPy's."""

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), Noise(), nn.Dropout(0.2), nn.Linear(6, 10)
        )


class Noise(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (0.9 + 0.2 * np.random.rand()) if self.training else inputs  # noqa: NPY002


MODELS.add("all-that-moves", AllThatMoves)

MEASURED = (
    "loss",
    "accuracy",
    "sharpness:k=2",
    "effective_sharpness",
    "ratio",
    "directional_smoothness",
    "norms",
    "time",
)
SMALL = RunConfig(
    data="digits",
    model="mlp:widths=6",
    lr=0.1,
    steps=24,
    train=60,
    test=20,
    every=4,
    measures=MEASURED,
    checkpoint_every=10,
    threads=1,
    path="kept",
)


def small(**changes: Any) -> RunConfig:
    return dataclasses.replace(SMALL, **changes)


def plain_training(config: RunConfig, make: Any) -> tuple[nn.Module, list[float]]:
    """The same full-batch run as three lines of torch: the model, and the loss before every step and at the end."""
    data = DATA.build(config.data, train=config.train, test=config.test).load()
    dtype = getattr(torch, config.dtype)
    model = MODELS.build(config.model).build(data.input_shape, data.classes, config.seed).to(dtype)
    optimizer, losses = make(model.parameters()), []
    for step in range(config.steps + 1):
        optimizer.zero_grad()
        loss = half_mse(model(data.inputs.to(dtype)), data.targets)
        losses.append(loss.item())
        if step < config.steps:
            loss.backward()
            optimizer.step()
    return model, losses


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd:momentum=0.9,nesterov=true": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
}


@pytest.mark.parametrize("spec", OPTIMIZERS)
def test_a_run_is_what_torch_computes(spec: str, tmp_path: Path) -> None:
    config = small(optimizer=spec, dtype="float64", every=3)
    result = train(config, tmp_path)
    assert (result.status, result.steps, result.folder) == ("finished", 24, tmp_path)
    model, losses = plain_training(config, OPTIMIZERS[spec])
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    for name, value in model.state_dict().items():
        assert torch.allclose(checkpoint.tensors[f"model.{name}"], value, rtol=1e-9, atol=1e-12)
    with Record.open(tmp_path) as record:
        steps, found = record.series("loss", "train")
        assert steps.tolist() == list(range(0, 25, 3))
        assert found == pytest.approx([losses[s] for s in steps], rel=1e-9)
        assert record.status == "finished"
        assert record.config == config.as_dict()
        assert record.info["plan"] == {"path": "kept", "threads": 1}
        assert (record.info["steps"], record.info["seconds"]) == (24, result.seconds)
        _, change = record.series("directional_smoothness", "actual")
        assert change == pytest.approx([losses[s] - losses[s - 1] for s in steps[1:]], rel=1e-6, abs=1e-12)


def test_measuring_changes_no_bit_of_training(tmp_path: Path) -> None:
    runs = {"none": small(measures=("time",), every=1000), "all": small(every=1), "few": small(every=5)}
    ends = []
    for name, config in runs.items():
        train(config, tmp_path / name)
        checkpoint = latest_checkpoint(tmp_path / name)
        assert checkpoint is not None
        ends.append({k: v for k, v in checkpoint.tensors.items() if k.startswith("model.")})
    for other in ends[1:]:
        assert all(torch.equal(ends[0][name], other[name]) for name in ends[0])


def test_a_gradient_that_a_measurement_worked_out_is_not_paid_again(tmp_path: Path) -> None:
    from edgescope.training.parts import Parts
    from edgescope.training.run import _Run

    with Record.create(tmp_path) as record:
        run = _Run(Parts(small(every=1, measures=("loss", "sharpness"))), record, None)
        run.monitor.start()
        for _ in range(5):
            before = run.objective.spent
            run._step()
            assert run.objective.spent == before
            run.monitor.step()


def test_mini_batches_go_through_all_samples_in_an_order_of_seed_and_epoch_alone(tmp_path: Path) -> None:
    from edgescope.training.gradients import FromBatches

    data = torch.arange(10.0)[:, None], torch.arange(10)

    def order(seed: int, steps: list[int]) -> list[list[int]]:
        batches = FromBatches(nn.Linear(1, 1), supervised(nn.functional.mse_loss), data, 4, seed)
        return [batches.batch(step)[1].tolist() for step in steps]

    first = order(0, list(range(6)))
    assert [len(batch) for batch in first] == [4, 4, 2, 4, 4, 2]
    for epoch in (first[:3], first[3:]):
        assert sorted(sample for batch in epoch for sample in batch) == list(range(10))
    assert first[:3] != first[3:]
    assert order(0, [4, 1]) == [first[4], first[1]]  # from anywhere
    assert order(1, list(range(6))) != first


def test_batch_statistics_are_trained_and_measured_as_they_are(tmp_path: Path) -> None:
    config = small(model="resnet:widths=4,blocks=1", steps=2, every=1, measures=("loss", "sharpness"), train=16, test=8)
    train(config, tmp_path / "full")
    with Record.open(tmp_path / "full") as record:
        assert record.info["measured"]["mode"] == "batch-statistics"
        assert np.isfinite(record.series("sharpness", "1")[1]).all()
    checkpoint = latest_checkpoint(tmp_path / "full")
    assert checkpoint is not None
    moved = [v for k, v in checkpoint.tensors.items() if k.endswith("running_mean")]
    assert moved
    assert all(float(v.abs().max()) > 0 for v in moved)
    with pytest.warns(EdgescopeWarning, match="running statistics"):
        train(dataclasses.replace(config, mode="eval"), tmp_path / "eval")
    with Record.open(tmp_path / "eval") as record:
        assert record.info["measured"]["mode"] == "eval"
    train(dataclasses.replace(config, batch=8), tmp_path / "batches")
    with Record.open(tmp_path / "batches") as record:
        assert record.info["measured"]["mode"] == "batch-statistics"
        assert np.isfinite(record.series("sharpness", "1")[1]).all()


def test_gradient_flow_follows_its_own_time_and_is_bounded_by_the_sharpness(tmp_path: Path) -> None:
    train(small(optimizer="gradient-flow:rtol=10,atol=10,max_step=1e3", every=1, steps=6), tmp_path)
    with Record.open(tmp_path) as record:
        time, sharpness = record.series("time")[1], record.series("sharpness", "1")[1]
        steps = np.diff(time)
        assert steps == pytest.approx(1 / sharpness[:-1], rel=1e-9)
        loss = record.series("loss", "train")[1]
        assert (np.diff(loss) < 0).all()


@pytest.mark.parametrize("lr", [1e2, 1e6])
def test_a_run_that_diverges_ends_as_diverged_at_its_step(lr: float, tmp_path: Path) -> None:
    config = small(model="mlp:widths=6,activation=relu", lr=lr, every=4, steps=200)
    result = train(config, tmp_path)
    _, losses = plain_training(dataclasses.replace(config, steps=result.steps), lambda p: torch.optim.SGD(p, lr=lr))
    over = [not math.isfinite(loss) or loss > 1e4 * losses[0] for loss in losses]
    assert result.status == "diverged"
    assert result.steps == over.index(True)
    with Record.open(tmp_path) as record:
        assert record.status == "diverged"
        assert record.events().select("step", "kind").rows() == [(result.steps, "diverged")]
    assert train(config, tmp_path, resume=True) == result


@pytest.mark.parametrize("stop", [{"stop_loss": 0.4}, {"stop_accuracy": 0.3}])
def test_a_stop_condition_ends_the_run_at_a_measurement_and_is_recorded(stop: dict[str, float], tmp_path: Path) -> None:
    config = small(steps=400, **stop)
    result = train(config, tmp_path)
    with Record.open(tmp_path) as record:
        measure = next(iter(stop)).removeprefix("stop_")
        steps, values = record.series(measure, "train")
        met = values <= 0.4 if measure == "loss" else values >= 0.3
        assert met.tolist() == [False] * (len(met) - 1) + [True]
        assert (result.status, result.steps) == ("finished", steps[-1])
        assert record.events().select("step", "kind").rows() == [(result.steps, "stopped")]


def fingerprint(folder: Path) -> str:
    with Record.open(folder) as record:
        return record.fingerprint()


RUNS: dict[str, dict[str, Any]] = {
    "full batch": {"optimizer": "sgd:momentum=0.9", "lr": 0.05},
    "flow": {"optimizer": "gradient-flow"},
    "batches": {"model": "all-that-moves", "optimizer": "adam", "lr": 0.01, "batch": 16},
}
RUNS = {name: changes | {"steps": 18, "every": 3, "checkpoint_every": 4} for name, changes in RUNS.items()}

# Each child kills itself at the call of some function, drawn from all calls of a whole run.
KILLED = """
import os, random, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import RUNS, small
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

chance = random.Random(7)
for name, changes in RUNS.items():
    config, kills = small(**changes), 0
    train(config, Path(sys.argv[2], "first", name))  # which loads what is loaded on first use
    calls = train_counting(config, Path(sys.argv[2], "undisturbed", name))
    while True:
        fatal = int(calls * chance.uniform(0.2, 0.8)) if kills < 2 else None
        child = os.fork()
        if child == 0:
            train_counting(config, Path(sys.argv[2], "killed", name), fatal)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(kills, os.WEXITSTATUS(status))
"""


def test_runs_killed_again_and_again_end_in_the_same_record(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, line in zip(RUNS, done.stdout.splitlines(), strict=True):
        kills, code = map(int, line.split())
        assert (kills > 0, code) == (True, 0), done.stderr
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


def test_threads_and_random_generators_are_given_back(tmp_path: Path) -> None:
    threads, before = torch.get_num_threads(), rng_state()
    train(small(steps=3, model="mlp:widths=4"), tmp_path)
    after = rng_state()
    assert torch.get_num_threads() == threads
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
    assert np.array_equal(before["numpy"][1], after["numpy"][1])


def test_progress_runs_from_step_to_step(tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    train(small(steps=4), tmp_path, lambda share, words: seen.append((share, words)))
    assert [share for share, _ in seen] == [0.25, 0.5, 0.75, 1.0]
    assert all(re.match(r"step \d, loss [\d.e-]+", words) for _, words in seen)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"lr": 0.0}, InputError, "lr=0; expected a finite number above 0"),
        ({"lr": -1.0}, InputError, "lr=-1"),
        ({"lr": math.inf}, InputError, "lr=inf"),
        ({"lr": math.nan}, InputError, "lr=nan"),
        ({"steps": 0}, InputError, "steps=0"),
        ({"every": 0}, InputError, "every=0"),
        ({"batch": 0}, InputError, "batch=0"),
        ({"checkpoint_every": 0}, InputError, "checkpoint_every=0"),
        ({"threads": 0}, InputError, "threads=0"),
        ({"seed": -1}, InputError, "seed=-1"),
        ({"dtype": "float16"}, InputError, "one of float32, float64"),
        ({"path": "fast"}, InputError, "path='fast'"),
        ({"budget": 0.1}, InputError, "both every and budget"),
        ({"every": None, "budget": -1.0}, InputError, "budget=-1"),
        ({"data": "digit"}, UnknownNameError, "try 'digits'"),
        ({"model": "mlpp"}, UnknownNameError, "try 'mlp'"),
        ({"loss": "mes"}, UnknownNameError, "try 'mse'"),
        ({"optimizer": "sdg"}, UnknownNameError, "try 'sgd'"),
        ({"optimizer": "sgd:momentun=0.9"}, UnknownNameError, "try 'momentum='"),
        ({"measures": ("sharpnes",)}, UnknownNameError, "try 'sharpness'"),
        ({"measures": ("sharpness",), "stop_loss": 0.1}, InputError, "stop_loss without the measure 'loss'"),
        ({"stop_accuracy": math.nan}, InputError, "stop_accuracy=nan"),
    ],
)
def test_a_configuration_that_cannot_be_used(changes: dict[str, Any], error: type[InputError], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": 10**6}, "1,000,000 training samples"),
        ({"model": "gpt"}, "gpt"),
        ({"optimizer": "muon"}, "Muon"),
        ({"optimizer": "gradient-flow", "batch": 8}, "gradient flow with mini-batches"),
    ],
)
def test_parts_that_do_not_fit_together_leave_no_folder_behind(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgescopeError, match=words) as caught:
        train(small(**changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_or_holds_another_run_is_refused(tmp_path: Path) -> None:
    train(small(steps=2), tmp_path)
    with pytest.raises(RecordError, match="already contains"):
        train(small(steps=2), tmp_path)
    with pytest.raises(InputError, match=r"has lr = 0\.1, not 0\.2"):
        train(small(steps=2, lr=0.2), tmp_path, resume=True)


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
