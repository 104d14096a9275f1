"""Headroom and warnings before spikes in mixed precision: a gradient scaler on the CPU, with steps that it skips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.monitor import Monitor, SpikeEvent

CALM, STEPS, OVERFLOWS = 20, 30, (3, 4, 12, 22)
"""Steps at a small rate, steps in all, and the steps before which a gradient overflows."""

X = torch.linspace(-1, 1, 8)[:, None] * torch.tensor([1.0, 0.25])
Y = X.sum(1, keepdim=True)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


@dataclass
class Trained:
    """A run of gradient descent, whose rate grows beyond the threshold at step ``CALM``."""

    monitor: Monitor
    model: nn.Module
    warnings: list[SpikeEvent]
    spikes: list[SpikeEvent]


def trained(scaled: bool, watched: bool = True, told: bool = True, fused: bool = False) -> Trained:
    """Descent on mini-batches; ``told``: the monitor is given the batch and the loss of each step, skipped ones too."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    objective = es.Objective(model, loss_of, (X, Y), path="kept", threads=1)
    monitor = Monitor(objective, optimizer, every=1, measures=["loss", "headroom", "ratio"] if watched else ["loss"])
    found = Trained(monitor, model, [], [])
    if watched:
        monitor.on("warning", found.warnings.append)
        monitor.on("spike", found.spikes.append)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 if step < CALM else 2.5
        batch = (X[step % 2 :: 2], Y[step % 2 :: 2])
        for factor in (float("inf"), 1.0) if scaled and step in OVERFLOWS else (1.0,):
            optimizer.zero_grad()
            data = batch if factor == 1 else (100 * X, Y)  # not those of the step that is taken
            loss = factor * loss_of(model, data)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            more: dict[str, Any] = {"batch": data, "loss": loss} if told else {}
            monitor.step(**more)
    return found


@pytest.mark.parametrize(("told", "fused"), [(True, False), (False, False), (True, True)])
def test_headroom_and_events_are_those_of_training_without_a_scaler(told: bool, fused: bool) -> None:
    plain, scaled = trained(False, told=told, fused=fused), trained(True, told=told, fused=fused)
    assert scaled.monitor.steps == STEPS
    for left, right in zip(plain.model.parameters(), scaled.model.parameters(), strict=True):
        assert torch.equal(left, right)  # scales are powers of two
    for part in ("ratio", "used", *(["ratio/batch", "used/batch"] if told else [])):
        steps, values = plain.monitor.record.series("headroom", part)
        also, same = scaled.monitor.record.series("headroom", part)
        assert steps.tolist() == also.tolist()
        assert len(steps) >= STEPS // 2
        assert same == pytest.approx(values, rel=1e-5, nan_ok=True), part
    assert plain.monitor.record.series("ratio")[1] == pytest.approx(scaled.monitor.record.series("ratio")[1], rel=1e-5)
    assert plain.warnings or plain.spikes  # the rate beyond the threshold was noticed
    assert [one.step for one in scaled.warnings] == [one.step for one in plain.warnings]
    assert [one.step for one in scaled.spikes] == [one.step for one in plain.spikes]


@pytest.mark.parametrize("fused", [False, True])
def test_weights_are_the_same_bit_for_bit_with_and_without_watching(fused: bool) -> None:
    watched, plain = trained(True, fused=fused), trained(True, watched=False, fused=fused)
    for left, right in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(left, right)
