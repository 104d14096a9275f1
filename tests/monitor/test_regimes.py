"""Events where the verdict on a run changes, and early stopping."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from monitor_runs import noticed
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError, MissingExtraError, UnknownNameError
from edgescope.monitor import EarlyStopping, RegimeEvent

MEASURES = ["loss", "sharpness", "effective_sharpness", "threshold", "ratio"]


def quadratic(curvature: float) -> tuple[nn.Module, Any]:
    """A loss with the second derivative ``curvature`` by its only parameter, which begins at 1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    x = torch.full((4, 1), curvature**0.5)
    return model, (x, torch.zeros(4, 1))


def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
    return (model(batch[0]) - batch[1]).square().mean() / 2


def run(
    rates: list[float], curvature: float = 1.0, every: int = 1, **options: Any
) -> tuple[es.Monitor, list[RegimeEvent]]:
    """Gradient descent on a quadratic at these learning rates, whose ratio is rate * curvature / 2, and its events."""
    model, data = quadratic(curvature)
    optimizer = torch.optim.SGD(model.parameters(), lr=rates[0])
    events: list[RegimeEvent] = []
    monitor = es.watch(model, optimizer, loss_fn, data, every=every, measures=MEASURES, **options)
    for kind in ("edge", "diverging"):
        monitor.on(kind, events.append)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss_fn(model, data).backward()
        optimizer.step()
    monitor.close()
    return monitor, events


def test_a_run_far_below_the_edge_has_no_event() -> None:
    assert run([0.5] * 12)[1] == []


def test_the_edge_is_reached_once_and_again_after_a_stable_time() -> None:
    monitor, events = run([0.5] * 6 + [1.98] * 12 + [0.5] * 12 + [1.98] * 12)
    assert [event.kind for event in events] == ["edge", "edge"]
    first, second = events
    assert 6 <= first.step <= 18
    assert 30 <= second.step <= 42
    assert first.verdict.regime == "at the edge"
    assert first.verdict.step == first.step
    found = monitor._last_facts.events.filter(kind="edge")  # type: ignore[union-attr]
    assert found["step"].to_list() == [first.step, second.step]
    assert found["text"][0] == str(first.verdict)


def test_a_run_beyond_the_edge_diverges() -> None:
    _, events = run([2.5] * 30)
    assert [event.kind for event in events] == ["edge", "diverging"]
    assert events[-1].verdict.regime == "beyond it and diverging"
    assert events[-1].step < 12


def test_parameters_that_are_not_finite_are_divergence_whatever_the_reason() -> None:
    model, data = quadratic(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    events: list[RegimeEvent] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)
        monitor = es.watch(model, optimizer, loss_fn, data, every=1, measures=MEASURES)
        monitor.on("diverging", events.append)
        for step in range(8):
            optimizer.zero_grad()
            loss_fn(model, data).backward()
            optimizer.step()
            if step == 4:
                with torch.no_grad():
                    model.weight.fill_(torch.nan)  # type: ignore[operator]
        monitor.close()
    assert [(event.kind, event.step) for event in events] == [("diverging", 5)]


def test_training_stops_early() -> None:
    model, data = quadratic(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.5)
    stopping = EarlyStopping()
    monitor = es.watch(model, optimizer, loss_fn, data, every=1, measures=MEASURES)
    monitor.on("diverging", stopping)
    while monitor.steps < 100 and not stopping.should_stop:
        optimizer.zero_grad()
        loss_fn(model, data).backward()
        optimizer.step()
        monitor.step()
    assert monitor.steps < 12
    assert (stopping.event.kind, stopping.event.step) == ("diverging", monitor.steps)
    monitor.close()


def test_an_error_in_the_function_does_not_end_training() -> None:
    model, data = quadratic(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.99)
    with noticed("the function of monitor.on\\('edge'\\) raised an error"):
        monitor = es.watch(model, optimizer, loss_fn, data, every=1, measures=MEASURES)
        monitor.on("edge", lambda event: 1 / 0)
        for _ in range(6):
            optimizer.zero_grad()
            loss_fn(model, data).backward()
            optimizer.step()
        monitor.close()


def test_an_event_is_not_repeated_by_a_run_that_is_resumed(tmp_path: Path) -> None:
    def session(steps: int, state: Any = None) -> tuple[Any, list[RegimeEvent]]:
        model, data = quadratic(1.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.98)
        events: list[RegimeEvent] = []
        monitor = es.watch(
            model, optimizer, loss_fn, data, every=1, measures=MEASURES, out=tmp_path / "run", resume=True
        )
        monitor.on("edge", events.append)
        if state is not None:
            model.load_state_dict(state["model"])
            monitor.load_state_dict(state["monitor"])
        for _ in range(steps):
            optimizer.zero_grad()
            loss_fn(model, data).backward()
            optimizer.step()
        kept = {"model": model.state_dict(), "monitor": monitor.state_dict()}
        monitor.close()
        return kept, events

    state, events = session(6)
    assert [event.kind for event in events] == ["edge"]
    assert session(6, state)[1] == []


def test_what_cannot_be_watched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = quadratic(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with es.Monitor(es.Objective(model, loss_fn, data), optimizer) as monitor:
        with pytest.raises(UnknownNameError, match="edge, diverging, warning, spike"):
            monitor.on("divergin", print)
        with pytest.raises(InputError, match="expected a function of a RegimeEvent"):
            monitor.on("edge", 3)  # type: ignore[arg-type]
        monkeypatch.setattr("edgescope.extras.installed", lambda module: False)
        monitor._reader.regimes = None
        with pytest.raises(MissingExtraError, match=r"edgescope\[tables\]"):
            monitor.on("edge", print)
