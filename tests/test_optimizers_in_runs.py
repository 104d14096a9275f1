"""Training runs with Lion, two optimizers, SAM and clipped gradients against loops in plain torch, bit for bit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small
from torch import nn

from edgescope.cli import main
from edgescope.data import DATA
from edgescope.errors import EdgescopeError, InputError
from edgescope.losses import half_mse
from edgescope.models import MODELS
from edgescope.objective.modules import thread_count
from edgescope.optim import SAM, Lion
from edgescope.store import Record, latest_checkpoint
from edgescope.sweep.plan import gradients_of
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import kind_of
from edgescope.training.gradient_time import time_gradient
from edgescope.training.gradients import EpochOrder, FromObjective
from edgescope.training.parts import Parts
from edgescope.training.stepping import take_step

Parameters = Iterable[torch.Tensor]


def pair(parameters: Parameters) -> list[torch.optim.Optimizer]:
    own = list(parameters)
    matrices, rest = [p for p in own if p.ndim == 2], [p for p in own if p.ndim != 2]
    return [torch.optim.Muon(matrices, lr=0.1), torch.optim.AdamW(rest, lr=0.02)]


MADE: dict[str, Callable[[Parameters], list[Any]]] = {
    "sgd": lambda p: [torch.optim.SGD(p, lr=0.1)],
    "lion": lambda p: [Lion(p, lr=0.1)],
    "muon+adamw:lr=0.02": pair,
    "sam:rho=0.05,base=sgd:momentum=0.9": lambda p: [SAM(p, torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.05)],
}


def plain_training(config: RunConfig) -> tuple[nn.Module, list[float]]:
    """The model at the end, and the norms of all gradients before they are clipped; with the threads of the run."""
    with thread_count(config.threads):
        return _plain_training(config)


def _plain_training(config: RunConfig) -> tuple[nn.Module, list[float]]:
    data = DATA.build(config.data, train=config.train, test=config.test).load()
    model = MODELS.build(config.model).build(data.input_shape, data.classes, config.seed)
    optimizers, norms = MADE[config.optimizer](model.parameters()), []
    order = None if config.batch is None else EpochOrder(len(data.inputs), config.batch, config.seed)
    for step in range(config.steps):
        chosen = slice(None) if order is None else order.places(step)

        def gradient(chosen: Any = chosen) -> None:
            model.zero_grad()
            half_mse(model(data.inputs[chosen]), data.targets[chosen]).backward()

        gradient()
        if isinstance(optimizers[0], SAM):
            optimizers[0].first_step()
            gradient()
        if config.clip is not None:
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), config.clip)))
        for optimizer in optimizers:
            optimizer.step()
    return model, norms


def end_of(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    return {name: value for name, value in checkpoint.tensors.items() if name.startswith("model.")}


LIGHT = ("loss", "gradient_norm", "sharpness@8", "headroom@4")
QUIET = pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")


@QUIET
@pytest.mark.parametrize("batch", [None, 16])
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("spec", MADE)
def test_a_run_equals_a_plain_loop_bit_for_bit(
    spec: str, clip: float | None, batch: int | None, tmp_path: Path
) -> None:
    config = small(optimizer=spec, clip=clip, batch=batch, steps=12, every=4, measures=LIGHT)
    assert train(config, tmp_path).status == "finished"
    model, norms = plain_training(config)
    found = end_of(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(found[f"model.{name}"], value), name
    assert clip is None or max(norms) > 2 * clip  # it clips


@QUIET
def test_what_is_measured_is_the_gradient_before_it_is_clipped(tmp_path: Path) -> None:
    train(small(clip=0.01, steps=2, every=1, measures=("gradient_norm", "threshold", "loss")), tmp_path)
    config = small(clip=0.01, steps=2)
    _, norms = plain_training(config)
    with Record.open(tmp_path) as record:
        steps, measured = record.series("gradient_norm")
        assert measured[:2] == pytest.approx(norms, rel=1e-5)
        thresholds = dict(zip(*record.series("threshold"), strict=True))
    assert thresholds[1] == pytest.approx(2 / 0.1 * measured[list(steps).index(1)] / 0.01, rel=1e-3)


def test_clipping_leaves_the_gradient_of_the_objective_as_it_is() -> None:
    parts = Parts(small())
    objective = parts.objective(parts.samples, parts.mode)
    FromObjective(objective).compute(0)
    kept = objective.gradient()
    before, w = kept.clone(), objective.parameters()
    take_step(parts.optimizers, lambda: torch.zeros(()), max_norm=0.01)
    assert torch.equal(kept, before)
    moved = objective.parameters() - w
    assert float(moved.norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


@QUIET
@pytest.mark.parametrize("spec", ["lion", "muon+adamw:lr=0.02"])
def test_a_run_that_was_extended_equals_one_with_all_steps(spec: str, tmp_path: Path) -> None:
    config = small(optimizer=spec, clip=0.05, steps=12, every=4, measures=LIGHT)
    train(config, tmp_path / "whole")
    train(dataclasses.replace(config, steps=7), tmp_path / "extended")
    train(config, tmp_path / "extended", resume=True)
    whole, extended = end_of(tmp_path / "whole"), end_of(tmp_path / "extended")
    assert whole.keys() == extended.keys()
    assert all(torch.equal(whole[name], extended[name]) for name in whole)


@QUIET
def test_two_optimizers_have_a_joint_ratio_and_one_each(tmp_path: Path) -> None:
    spec = "sgd:momentum=0.9+adamw:lr=0.02"
    train(small(optimizer=spec, steps=4, every=2, measures=("loss", "ratio", "threshold")), tmp_path)
    with Record.open(tmp_path) as record:
        joint, of_sgd, of_adamw = (record.series("ratio", part)[1][-1] for part in ("", "SGD", "AdamW"))
        assert record.series("threshold")[1][-1] == 1
    assert max(of_sgd, of_adamw) <= joint * 1.001


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip": 0.0}, "clip=0"),
        ({"clip": -1.0}, "clip=-1"),
        ({"clip": float("nan")}, "clip=nan"),
        ({"optimizer": "gradient-flow", "clip": 1.0}, "gradient flow with clip"),
        ({"optimizer": "muon+sam"}, "'sam' beside another optimizer"),
        ({"optimizer": "muon+adamw:lr=-1"}, "lr=-1"),
        ({"optimizer": "lion:betas=0.9"}, "betas"),
    ],
)
def test_a_configuration_that_cannot_be_used(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_a_pair_for_a_model_of_matrices_alone_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(EdgescopeError, match="AdamW has nothing to train") as caught:
        train(small(model="mlp:widths=4,bias=false", optimizer="muon+adamw"), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_clipped_runs_and_pairs_are_trained_one_by_one() -> None:
    light = small(every=None, measures=("loss",))
    assert kind_of(light) is not None
    assert kind_of(dataclasses.replace(light, clip=1.0)) is None
    assert kind_of(dataclasses.replace(light, optimizer="sgd+adamw")) is None


@pytest.mark.parametrize(("spec", "gradients"), [("sam", 2), ("muon+adamw", 1), ("lion", 1)])
def test_a_plan_counts_the_gradients_of_a_step(spec: str, gradients: int) -> None:
    config = small(optimizer=spec, measures=("loss@end",))
    timed = time_gradient(config)
    assert gradients_of(config, 10, timed, timed)[0] == 10 * gradients


@QUIET
def test_the_command_line_takes_a_pair_and_a_norm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --data digits:train=20,test=10,pool=4 --model mlp:widths=4 --steps 3 --every 3 --measures loss"
    said = [*words.split(), "--optimizer", "muon+adamw:lr=0.002", "--clip", "0.5", "--out", str(tmp_path / "run")]
    assert main(said) == 0
    with Record.open(tmp_path / "run") as record:
        assert (record.config["optimizer"], record.config["clip"]) == ("muon+adamw:lr=0.002", 0.5)
    assert main([*words.split(), "--clip", "-1", "--out", str(tmp_path / "bad")]) == 2
    assert "clip=-1" in capsys.readouterr().err
