"""``Monitor(on_reading=...)`` passes on every reading as it is taken, and an error in it does not reach training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monitor_runs import LOSS, data, objective_of, small
from torch.optim import SGD

from edgescope.errors import EdgescopeWarning, InputError
from edgescope.measures import Reading
from edgescope.monitor import Monitor


def trained(on_reading: Any, steps: int = 6, **options: Any) -> tuple[Monitor, torch.Tensor]:
    """A monitor that is closed, and the weights after training without calling ``monitor.step()``."""
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(
        objective_of(model), optimizer, every=2, measures=["loss", "sharpness"], on_reading=on_reading, **options
    )
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model, data()).backward()
        optimizer.step()
    monitor.close()
    return monitor, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_each_reading_is_passed_on_once_as_the_record_has_it() -> None:
    received: list[tuple[int, dict[str, Reading]]] = []
    monitor, _ = trained(lambda step, readings: received.append((step, readings)))
    assert [step for step, _ in received] == [0, 2, 4, 6]
    rows = [
        (step, name, part, value)
        for step, readings in received
        for name, reading in readings.items()
        for part, value in reading.values.items()
    ]
    assert sorted(rows) == sorted(monitor.table().select("step", "measure", "part", "value").rows())


def test_an_error_in_it_becomes_one_warning_and_training_is_the_same() -> None:
    def fails(step: int, readings: dict[str, Reading]) -> None:
        raise RuntimeError(f"no connection at step {step}")

    _, undisturbed = trained(None)
    with pytest.warns(EdgescopeWarning, match="on_reading= raised an error .*no connection") as warned:
        monitor, weights = trained(fails)
    assert len(warned) == 1
    assert torch.equal(weights, undisturbed)
    assert monitor.table()["step"].unique().sort().to_list() == [0, 2, 4, 6]


def test_an_error_in_it_is_raised_where_errors_are() -> None:
    def fails(step: int, readings: dict[str, Reading]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(fails, on_error="raise")


def test_changes_to_what_it_receives_do_not_reach_the_monitor() -> None:
    monitor, _ = trained(lambda step, readings: readings.clear())
    assert set(monitor.latest) == {"loss", "sharpness"}


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(InputError, match="on_reading= is"):
        trained("wandb")
