"""The state of a monitor: what it holds, through a file and back, and which one does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_runs import noticed, objective_of, small
from resumed_sessions import ALL, through_a_file, train
from torch import nn
from torch.optim import Adam

from edgescope.errors import InputError
from edgescope.measures import MEASURES, Measure, Reading
from edgescope.monitor import Monitor


def test_a_state_that_was_just_loaded_is_given_back(tmp_path: Path) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.01)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=[*ALL, "rds_sharpness"])
    with noticed():
        train(monitor, model, optimizer, 4)
    state = monitor.state_dict()
    monitor.close()
    again = Monitor(objective_of(model), optimizer, every=1, measures=[*ALL, "rds_sharpness"])
    again.load_state_dict(through_a_file(state))
    assert_equal(again.state_dict(), state)
    assert_equal(monitor.state_dict(), state)  # also after it was closed


def assert_equal(found: Any, expected: Any, where: str = "state") -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{where}.{i}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert found == expected or (found != found and expected != expected), where


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_the_state_of_every_measure_loads_as_weights_only(name: str) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.01)
    monitor = Monitor(
        objective_of(model), optimizer, every=1, measures=[name], evaluations={"test": objective_of(model)}
    )
    with noticed():
        train(monitor, model, optimizer, 3)
        state = monitor.state_dict()
        loaded = through_a_file(state)
        assert_equal(loaded, state)
        again = Monitor(objective_of(model), optimizer, every=1, measures=[name])
        again.load_state_dict(loaded)
        assert_equal(again.state_dict(), state)


class Odd(Measure):
    """A measure of a user with a state of all kinds."""

    name, title, unit, source, needs = "odd", "", "", "", "nothing"
    kept: Any = None

    def read(self, moment: Any) -> Any:
        return Reading("odd", {"": 1.0})

    def state(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state(self, state: dict[str, Any]) -> None:
        self.kept = state["kept"]


def test_arrays_and_numbers_of_numpy_travel_and_other_objects_are_named() -> None:
    odd, again = Odd(), Odd()
    odd.kept = {"a": np.arange(3.0), 4: (np.float64(0.5), np.int64(2)), "bytes": b"x"}
    monitor = Monitor(objective_of(small()), measures=[odd])
    other = Monitor(objective_of(small()), measures=[again])
    other.load_state_dict(through_a_file(monitor.state_dict()))
    assert again.kept["a"].tolist() == [0.0, 1.0, 2.0]
    assert isinstance(again.kept["a"], np.ndarray)
    assert again.kept[4] == (0.5, 2)
    odd.kept = {"deep": [object()]}
    with pytest.raises(InputError, match=r"'odd', 'kept', 'deep', item 0 is a object") as caught:
        monitor.state_dict()
    assert "\n" not in str(caught.value)


def test_a_state_that_does_not_fit_is_refused() -> None:
    monitor = Monitor(objective_of(small()), measures=["loss"])
    state = monitor.state_dict()
    other = Monitor(objective_of(small()), measures=["loss", "norms"])
    with pytest.raises(InputError, match="a state with the measures loss; expected one with loss, norms"):
        other.load_state_dict(state)
    wide = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3))
    with pytest.raises(InputError, match="a state of 39 parameters; expected one of 84"):
        Monitor(objective_of(wide), measures=["loss"]).load_state_dict(state)
    with pytest.raises(InputError, match=r"expected what monitor.state_dict\(\) gave"):
        monitor.load_state_dict({"steps": 3})
