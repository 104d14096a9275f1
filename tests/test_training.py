"""Training runs from a configuration: what they compute, how they end, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import small
from torch import nn

from edgescope.data import DATA
from edgescope.errors import EdgescopeError, EdgescopeWarning, InputError, RecordError, UnknownNameError
from edgescope.losses import half_mse, supervised
from edgescope.models import MODELS
from edgescope.store import Record, latest_checkpoint, rng_state
from edgescope.training import RunConfig, train


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
    from edgescope.training.run import _TrainingRun

    with Record.create(tmp_path) as record:
        run = _TrainingRun(Parts(small(every=1, measures=("loss", "sharpness"))), record, None)
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
