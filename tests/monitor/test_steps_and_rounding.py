"""Steps and gradients in low precision, of length zero, or seen only once: nothing is told that is not so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, backward, data, objective_of, small
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor

MEASURES = ["threshold", "ratio", "step_ratio"]


def train(
    model: nn.Module,
    optimizer: Any,
    monitor: Monitor,
    steps: int = 6,
    *,
    loss: Any = None,
    clip: float | None = None,
    step: Any = None,
) -> None:
    for number in range(steps):
        optimizer.zero_grad()
        backward(model) if loss is None else loss(number)
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        (step or optimizer.step)()
        monitor.step()


def watched(model: nn.Module, optimizer: Any, every: int = 1, measures: Any = MEASURES, **more: Any) -> Monitor:
    return Monitor(objective_of(model, **more), optimizer, every=every, measures=measures)


def in_autocast(model: nn.Module) -> Callable[[int], None]:
    def loss(_: int) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = LOSS(model, data())
        value.backward()

    return loss


def in_bfloat16(model: nn.Module) -> Callable[[int], None]:
    batch = data(dtype=torch.bfloat16)
    return lambda _: LOSS(model, batch).backward()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", [lambda p: SGD(p, lr=0.2, momentum=0.5), lambda p: Adam(p, lr=0.01)])
def test_rounding_of_gradients_is_no_scale(kind: Any, seed: int) -> None:
    for loss, dtype in ((in_autocast, torch.float32), (in_bfloat16, torch.bfloat16)):
        model = small(seed).to(dtype)
        optimizer = kind(model.parameters())
        monitor = watched(model, optimizer)
        train(model, optimizer, monitor, loss=loss(model))
        assert monitor.value("threshold") == pytest.approx(
            15 if kind(model.parameters()).defaults["lr"] == 0.2 else 3800
        )
        assert abs(monitor.latest["step_ratio"].values["gradient"] - 1) < 0.02
        assert monitor.notices.given() == []
        monitor.close()


@pytest.mark.parametrize("loss", [in_autocast, in_bfloat16])
def test_clipping_is_seen_through_rounding(loss: Any) -> None:
    model = small().to(torch.bfloat16 if loss is in_bfloat16 else torch.float32)
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = watched(model, optimizer)
    with pytest.warns(EdgescopeWarning, match="gradients are clipped"):
        train(model, optimizer, monitor, loss=loss(model), clip=0.1)
    norm = float(monitor.objective.gradient().norm())
    assert monitor.value("threshold") == pytest.approx(20 * norm / 0.1, rel=0.05)


def test_steps_that_are_lost_in_the_rounding_of_the_parameters_are_told_of() -> None:
    model = small().bfloat16()
    optimizer = SGD(model.parameters(), lr=1e-4)
    monitor = watched(model, optimizer)
    with pytest.warns(EdgescopeWarning, match="lost in the rounding of the parameters") as told:
        train(model, optimizer, monitor, 24, loss=in_bfloat16(model))
    assert len(told) == 1, "and not that the parameters do not move"
    reading = monitor.latest["step_ratio"]
    assert reading.values[""] < 0.5 < reading.errors[""]


def test_an_objective_in_float64_of_a_model_in_float32() -> None:
    for clip in (None, 0.05):
        model = small()
        optimizer = SGD(model.parameters(), lr=0.1)
        monitor = watched(model, optimizer, dtype=torch.float64)
        if clip is None:
            train(model, optimizer, monitor, 12)
            assert monitor.notices.given() == []
            expected = 20.0
        else:
            with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.05"):
                train(model, optimizer, monitor, 12, clip=clip)
            expected = 20 * float(monitor.objective.gradient().norm()) / clip
        assert monitor.value("threshold") == pytest.approx(expected, rel=1e-5)
        assert monitor.value("step_ratio") == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("lr", [0.0, 1e-7, 1e-3])
def test_gradients_that_hardly_change_are_not_clipped(lr: float) -> None:
    model = small().double()
    optimizer = SGD(model.parameters(), lr=lr)
    monitor = watched(model, optimizer, batch=data(dtype=torch.float64))
    train(model, optimizer, monitor, 12, loss=lambda _: backward(model, data(dtype=torch.float64)))
    assert monitor.value("threshold") == (math.inf if lr == 0 else pytest.approx(2 / lr))
    assert monitor.notices.given() == []


def test_steps_of_length_zero_have_a_note_and_a_gradient() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.0)
    monitor = watched(model, optimizer)
    train(model, optimizer, monitor)
    reading = monitor.latest["step_ratio"]
    assert set(reading.values) == {"gradient", "gradient_cosine"}
    assert "step of length 0" in reading.note
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    train(model, optimizer, monitor, loss=lambda _: (0 * LOSS(model, data())).backward())  # gradients of zero
    assert monitor.latest["step_ratio"].values == {}
    assert monitor.value("threshold") == math.inf


def test_a_factor_seen_before_the_first_step_alone_is_left_open() -> None:
    """One gradient cannot tell clipping from a factor of the loss; at that place they come to the same."""
    for clip, factor in ((0.1, 1.0), (None, 0.25)):
        model = small().double()
        optimizer = SGD(model.parameters(), lr=0.1)
        batch = data(dtype=torch.float64)
        monitor = watched(model, optimizer, every=100, batch=batch)
        norm = float(monitor.objective.gradient().norm())
        train(model, optimizer, monitor, loss=lambda _, f=factor: backward(model, batch, f), clip=clip)  # noqa: B023
        expected = 20 * norm / 0.1 if clip else 20 / factor
        assert monitor.value("threshold") == pytest.approx(expected, rel=1e-5)
        assert "(clipping, or a factor of the loss)" in monitor.latest["threshold"].note
        assert monitor.notices.given() == []


@pytest.mark.parametrize("everything", [True, False])
def test_at_the_end_the_scale_is_that_of_the_last_step_that_was_seen(everything: bool) -> None:
    model = small().double()
    optimizer = SGD(model.parameters(), lr=0.1)
    measures = ["step_ratio", "threshold" if everything else "threshold@end"]
    monitor = watched(model, optimizer, every=3, measures=measures, batch=data(dtype=torch.float64))
    with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.05"):
        train(model, optimizer, monitor, 7, clip=0.05, loss=lambda _: backward(model, data(dtype=torch.float64)))
    readings = monitor.finish(everything=everything)
    assert readings is not None
    norm = float(monitor.objective.gradient().norm())
    assert readings["threshold"].values[""] == pytest.approx(20 * (norm + 1e-6) / 0.05, rel=1e-6)
    assert "clipped" in readings["threshold"].note


def test_a_closure_that_clips_is_seen_after_its_step() -> None:
    model = small().double()
    optimizer = Adam(model.parameters(), lr=0.01)
    batch = data(dtype=torch.float64)
    monitor = watched(model, optimizer, batch=batch)

    def closure() -> Any:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = backward(model, batch)
        clip_grad_norm_(model.parameters(), 0.05)
        return loss

    with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.05"):
        train(model, optimizer, monitor, loss=lambda _: None, step=lambda: optimizer.step(closure))
    norm = float(monitor.objective.gradient().norm())
    assert monitor.value("threshold") == pytest.approx(3800 * (norm + 1e-6) / 0.05, rel=1e-6)
    assert monitor.value("step_ratio") == pytest.approx(1, rel=1e-6)


def test_what_a_gradient_scaler_does_is_no_scale() -> None:
    for fused in (False, True):
        model = small()
        optimizer = Adam(model.parameters(), lr=0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        monitor = watched(model, optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            scaler.scale(LOSS(model, data())).backward()
            monitor.step()  # too early, with gradients that are still scaled
            scaler.step(optimizer)
            scaler.update()
        assert monitor.latest["step_ratio"].values["gradient"] == pytest.approx(1, rel=1e-4)
        assert monitor.value("threshold") == pytest.approx(3800)
        assert monitor.notices.given() == []
        monitor.close()


def test_parameters_that_are_projected_after_the_step_are_steps_of_another_kind() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.5)
    monitor = watched(model, optimizer)

    def step() -> None:
        optimizer.step()
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-0.2, 0.2)

    with pytest.warns(EdgescopeWarning, match="something else moves the parameters"):
        train(model, optimizer, monitor, step=step)
    assert monitor.value("step_ratio", "cosine") < 0.99
