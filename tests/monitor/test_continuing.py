"""A monitor made anew from the state of another continues its record bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from monitor_runs import LOSS, backward, data, noticed, objective_of, small
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, Muon

from edgescope.monitor import Monitor
from edgescope.monitor.monitor import DEFAULT_MEASURES
from edgescope.store import Record, latest_checkpoint, pack_state, save_checkpoint, unpack_state
from edgescope.training import RunConfig, train

MEASURES = (*DEFAULT_MEASURES, "step_ratio", "directional_smoothness", "time", "norms")
Step = Callable[[nn.Module, list[Any], int], None]


def plain(model: nn.Module, optimizers: list[Any], number: int) -> None:
    backward(model)
    for optimizer in optimizers:
        optimizer.step()


def clipped(model: nn.Module, optimizers: list[Any], number: int) -> None:
    backward(model)
    clip_grad_norm_(model.parameters(), 0.1)
    for optimizer in optimizers:
        optimizer.step()


def clipped_mini_batches(model: nn.Module, optimizers: list[Any], number: int) -> None:
    rows = torch.randint(24, (6,), generator=torch.Generator().manual_seed(number))
    backward(model, (data()[0][rows], data()[1][rows]))
    clip_grad_norm_(model.parameters(), 0.02)
    for optimizer in optimizers:
        optimizer.step()


def in_turns(model: nn.Module, optimizers: list[Any], number: int) -> None:
    for optimizer in optimizers[: 2 if number % 3 == 2 else 1]:
        model.zero_grad()
        backward(model)
        optimizer.step()


def of_a_copy_of_one_layer(model: nn.Module, optimizers: list[Any], number: int) -> None:
    """The first layer of the model does not move, which is told of after ten steps."""
    LOSS(nn.Sequential(copy.deepcopy(model[0]), *model[1:]), data()).backward()
    for optimizer in optimizers:
        optimizer.step()


def one(model: nn.Module) -> list[Any]:
    return [SGD(model.parameters(), lr=0.2, momentum=0.9)]


def adam(model: nn.Module) -> list[Any]:
    return [Adam(model.parameters(), lr=0.02)]


def two(model: nn.Module) -> list[Any]:
    return [SGD(model[0].parameters(), lr=0.1), Adam(model[2].parameters(), lr=0.02)]


def with_muon(model: nn.Module) -> list[Any]:
    vectors = [model[0].bias, model[2].bias]
    return [Muon([model[0].weight, model[2].weight], lr=0.02), Adam(vectors, lr=0.02)]


CASES: dict[str, tuple[Callable[[nn.Module], list[Any]], Step]] = {
    "plain": (one, plain),
    "clipped": (adam, clipped),
    "clipped in mini-batches": (one, clipped_mini_batches),
    "two in turns": (two, in_turns),
    "muon beside adam": (with_muon, clipped),
    "a layer that stands still": (one, of_a_copy_of_one_layer),
}


def run(name: str, folder: Path, stop: int | None, called: bool) -> tuple[str, list[tuple[Any, ...]]]:
    """12 steps, after one of which everything is packed, unpacked and made anew; the fingerprint and the events."""
    make, step = CASES[name]
    torch.manual_seed(0)
    model = small()
    optimizers = make(model)
    record = Record.create(folder)
    monitor = Monitor(objective_of(model), optimizers, every=3, measures=MEASURES, record=record)
    for number in range(1, 13):
        model.zero_grad()
        step(model, optimizers, number)
        if called:
            monitor.step()
        if number == stop:
            tensors, meta = pack_state("monitor", monitor.state_dict())
            save_checkpoint(folder, number, tensors, meta)
            states = [model.state_dict(), *(copy.deepcopy(o.state_dict()) for o in optimizers)]
            monitor.close()
            record.close()
            model, record = small(), Record.open(folder)
            optimizers = make(model)
            for part, state in zip([model, *optimizers], states, strict=True):
                part.load_state_dict(state)
            monitor = Monitor(objective_of(model), optimizers, every=3, measures=MEASURES, record=record)
            checkpoint = latest_checkpoint(folder)
            assert checkpoint is not None
            monitor.load_state_dict(unpack_state("monitor", checkpoint.tensors, checkpoint.meta))
            assert monitor.steps == number
    monitor.finish(everything=True)
    monitor.close()
    events = record.events().filter(pl.col("kind") != "resumed")
    return record.fingerprint(), events.select("step", "kind", "text").rows()


@pytest.mark.parametrize("name", CASES)
def test_a_state_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    with noticed():
        whole = run(name, tmp_path / "whole", None, called=True)
        for stop, called in ((5, True), (8, False)):
            assert run(name, tmp_path / f"{stop}{called}", stop, called) == whole


def test_what_was_told_is_not_told_again_after_a_pause(tmp_path: Path) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["threshold"])
    with noticed():
        for number in range(4):
            model.zero_grad()
            clipped(model, [optimizer], number)
    state = monitor.state_dict()
    monitor.close()
    again = Monitor(objective_of(model), optimizer, every=1, measures=["threshold"])
    again.load_state_dict(state)
    for number in range(4):  # warnings are errors here
        model.zero_grad()
        clipped(model, [optimizer], number)
        again.step()
    assert ("update", "clipping") in again.notices.given()
    assert again.record.events().is_empty()


@pytest.mark.parametrize("batch", [None, 40])
@pytest.mark.parametrize("optimizer", ["adam", "sgd:momentum=0.9"])
def test_a_training_run_that_is_resumed_has_the_same_record(optimizer: str, batch: int | None, tmp_path: Path) -> None:
    config = RunConfig(
        data="digits:train=80,test=20",
        model="mlp:widths=8",
        optimizer=optimizer,
        lr=0.01,
        batch=batch,
        steps=12,
        every=2,
        checkpoint_every=5,
        measures=(*DEFAULT_MEASURES, "step_ratio", "directional_smoothness"),
    )
    with noticed():
        train(config, tmp_path / "whole")
        calls = 0

        def stop_at_the_eighth(share: float, words: str) -> None:
            nonlocal calls
            calls += 1
            if calls == 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts", progress=stop_at_the_eighth)
        train(config, tmp_path / "parts", resume=True)
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as parts:
        assert parts.fingerprint() == whole.fingerprint()
        assert whole.series("step_ratio", "gradient")[0].tolist() == [2, 4, 6, 8, 10, 12]
