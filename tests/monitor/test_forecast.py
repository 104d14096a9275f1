"""What a reading is expected to take, and what a budget makes of it."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from monitor_runs import small
from torch.optim import SGD

from edgescope.errors import EdgescopeWarning
from edgescope.losses import supervised
from edgescope.monitor import Monitor
from edgescope.objective import Objective

LOSS = supervised(F.cross_entropy)


def problem(samples: int = 64) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return small(), torch.randn(samples, 5), torch.randint(3, (samples,))


def test_a_forecast_counts_the_gradients_of_each_measure_and_none_twice() -> None:
    model, x, y = problem()
    objective = Objective(model, LOSS, (x, y), threads=1)
    monitor = Monitor(
        objective, SGD(model.parameters(), lr=0.1), measures=["loss", "sharpness:k=2", "ratio", "spectrum@50"]
    )
    forecast = monitor.forecast()
    assert set(forecast.gradients) == {"loss", "sharpness", "ratio"}, "spectrum has a schedule of its own"
    assert forecast.gradients["sharpness"] > 0
    assert forecast.gradients["ratio"] == 0, "it takes over what the sharpness has found"
    assert forecast.first > sum(forecast.gradients.values())
    assert forecast.seconds == pytest.approx(forecast.gradient_seconds * sum(forecast.gradients.values()))
    before = objective.spent
    monitor.forecast()
    assert (objective.spent - before).gradients <= 2
    assert (objective.spent - before).products == 0
    monitor.close()


@pytest.mark.parametrize("k", [1, 3])
def test_the_forecast_is_that_of_a_run_to_a_factor(k: int) -> None:
    """In gradients as they are counted, not in time."""
    model, x, y = problem(256)
    objective = Objective(model, LOSS, (x, y), threads=1, path="kept")
    optimizer = SGD(model.parameters(), lr=0.5)
    with Monitor(objective, optimizer, every=1, measures=["loss", f"sharpness:k={k}"]) as monitor:
        forecast = monitor.forecast()
        for _ in range(21):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            monitor.step()
        table = monitor.record.table()
    spent = objective.spent.in_gradients() / 22
    assert spent / 4 <= sum(forecast.gradients.values()) <= 4 * spent
    assert table["step"].max() == 21


def test_a_budget_measures_nothing_until_training_has_earned_it() -> None:
    model, x, y = problem()
    optimizer = SGD(model.parameters(), lr=0.1)
    now = 0.0
    with Monitor(Objective(model, LOSS, (x, y), threads=1), optimizer, budget=0.1) as monitor:
        schedule = monitor.schedule
        schedule.clock, schedule.expect = (lambda: now), lambda: (1.0, 1.0)  # type: ignore[attr-defined]
        schedule._looked = schedule._earned = schedule._spent = 0.0  # type: ignore[attr-defined]
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            now += 1.0
            monitor.step()
        steps = monitor.record.series("sharpness", "1")[0].tolist()
    assert steps
    assert 8 <= steps[0] <= 9, "0.12 of eight and a half seconds, which the first reading is expected to take"


def test_the_construction_of_the_objective_counts_once() -> None:
    model, x, y = problem()
    objective = Objective(model, LOSS, (x, y), threads=1)
    assert objective.meter.take_construction() > 0
    assert objective.meter.take_construction() == 0, "it was taken into account"
    objective.meter._construction = 1000.0
    for spent in (1000.0, 0.0):
        monitor = Monitor(objective, SGD(model.parameters(), lr=0.1), budget=0.1)
        assert spent <= monitor.schedule._spent < spent + 500  # type: ignore[attr-defined]
        monitor.close()


def test_later_readings_are_expected_to_take_less_than_the_first() -> None:
    model, x, y = problem()
    optimizer = SGD(model.parameters(), lr=0.1)
    with Monitor(Objective(model, LOSS, (x, y), threads=1), optimizer, budget=0.1) as monitor:
        first, later = monitor.schedule.expect()  # type: ignore[attr-defined]
        forecast = monitor.forecast()
    assert 0 < later < first
    assert first / later == pytest.approx(forecast.first / sum(forecast.gradients.values()))


def test_what_is_expected_is_told_in_the_record() -> None:
    model, x, y = problem()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(Objective(model, LOSS, (x, y), threads=1), optimizer, budget=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        events = monitor.record.events()
        assert not monitor.latest
    with pytest.warns(EdgescopeWarning, match="training ended before budget=1e-06 had allowed one reading"):
        monitor.close()
    (text,) = events.filter(events["kind"] == "budget")["text"]
    assert "a reading is expected to take" in text
    assert "of training" in text


def test_a_loss_that_fails_is_no_forecast_and_shows_in_a_reading() -> None:
    model, x, y = problem()
    optimizer = SGD(model.parameters(), lr=0.1)
    broken = False

    def loss_fn(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        if broken:
            raise ValueError("no data")
        return F.cross_entropy(model(batch[0]), batch[1])

    monitor = Monitor(Objective(model, loss_fn, (x, y), threads=1), optimizer, budget=0.5)
    broken = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        monitor.close()
    assert any("no data" in str(one.message) for one in caught)
