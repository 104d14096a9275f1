"""The norm of steps, and how far second moments lag behind gradients."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.losses import half_mse

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning"),
]
LOSS = es.supervised(half_mse)
BLOCKS = {"0": slice(0, 30), "2": slice(30, 51)}


class Run:
    """A network of two layers on 20 samples; ``path`` are the parameters, ``gradients`` those of each step."""

    def __init__(self, measure: str, make: Any, every: int = 1) -> None:
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.data = torch.randn(20, 4).double(), torch.randint(3, (20,))
        self.optimizer = make(self.model.parameters())
        objective = es.Objective(self.model, LOSS, self.data, path="kept", threads=1)
        self.monitor = es.Monitor(objective, self.optimizer, every=every, measures=[measure])
        self.path, self.gradients = [self.flat()], []

    def flat(self, grad: bool = False) -> Tensor:
        return torch.cat([(p.grad if grad else p.detach()).flatten() for p in self.model.parameters()])  # type: ignore[union-attr]

    def step(self, factor: float = 1.0) -> Any:
        self.optimizer.zero_grad()
        (factor * LOSS(self.model, self.data)).backward()
        self.gradients.append(self.flat(grad=True))
        self.optimizer.step()
        self.path.append(self.flat())
        return self.monitor.step()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.5)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, betas=(0.9, 0.9))


def test_update_norm_and_its_multiple_of_the_median() -> None:
    run = Run("update_norm:by=layers,window=12", sgd, every=4)
    for number in range(1, 29):
        readings = run.step(3.0 if number == 28 else 1.0)
        if number % 4:
            continue
        found = readings["update_norm"].values
        moved = [b - a for a, b in zip(run.path, run.path[1:], strict=False)]
        for name, place in {"": slice(None), **BLOCKS}.items():
            norms = [float(d[place].norm()) for d in moved]
            end = f"/{name}" if name else ""
            assert found[f"norm{end}" if name else ""] == pytest.approx(norms[-1])
            assert found[f"relative{end}"] == pytest.approx(norms[-1] / float(run.path[-1][place].norm()))
            if number <= 8:
                assert f"over_median{end}" not in found
            else:
                assert found[f"over_median{end}"] == pytest.approx(norms[-1] / statistics.median(norms[-13:-1]))
    assert found["over_median"] > 1.3


def test_update_norm_continues_bit_for_bit() -> None:
    whole, half = Run("update_norm", sgd), Run("update_norm", sgd)
    for _ in range(20):
        whole.step()
    for _ in range(13):
        half.step()
    state = copy.deepcopy(half.monitor.state_dict())
    again = Run("update_norm", sgd)
    again.model.load_state_dict(half.model.state_dict())
    again.optimizer.load_state_dict(half.optimizer.state_dict())
    again.monitor.load_state_dict(state)
    for _ in range(7):
        again.step()
    assert again.monitor.latest["update_norm"].values == whole.monitor.latest["update_norm"].values


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_preconditioner_lag_of_adam(decay: float) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01, betas=(0.9, 0.95), weight_decay=decay)

    run = Run("preconditioner_lag:by=layers", make)
    for number in range(1, 9):
        found = run.step(1.0 if number < 8 else 0.1)["preconditioner_lag"].values
        g = run.gradients[-1] + decay * run.path[-2]
        state = [run.optimizer.state[p] for p in run.model.parameters()]
        v = torch.cat([s["exp_avg_sq"].flatten() for s in state]) / (1 - 0.95**number)
        for name, place in {"": slice(None), **BLOCKS}.items():
            exact = float((g[place] ** 2 / v[place].sqrt()).sum() / v[place].sqrt().sum())
            assert found[name] == pytest.approx(exact)
        if number == 1:
            assert found[""] == pytest.approx(1)
    if not decay:
        assert found[""] < 0.1  # the gradient has become a tenth, and v remembers


def test_preconditioner_lag_of_rmsprop_and_of_what_has_no_second_moments() -> None:
    run = Run("preconditioner_lag", lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9))
    run.step()
    found = run.step()["preconditioner_lag"].values
    v = torch.cat([run.optimizer.state[p]["square_avg"].flatten() for p in run.model.parameters()])
    assert found[""] == pytest.approx(float((run.gradients[-1] ** 2 / v.sqrt()).sum() / v.sqrt().sum()))
    assert "SGD keeps no second moments" in Run("preconditioner_lag", sgd).step()["preconditioner_lag"].note


def test_preconditioner_lag_takes_no_gradient_of_its_own() -> None:
    run = Run("preconditioner_lag", adam)
    spent = run.monitor.objective.spent
    run.step()
    assert (run.monitor.objective.spent - spent).gradients == 0


def test_step_ratio_by_layer_says_which_layer_is_scaled() -> None:
    """The gradient of one layer is half of the objective's, and the step of the other a quarter of its rule's."""
    run = Run("step_ratio:by=layers", sgd)
    run.optimizer.register_step_post_hook(lambda *_: _move_back(run))
    run.model[0].weight.register_hook(lambda gradient: gradient / 2)
    run.model[0].bias.register_hook(lambda gradient: gradient / 2)
    values = run.step()["step_ratio"].values
    assert values["gradient/0"] == pytest.approx(0.5)
    assert values["gradient/2"] == pytest.approx(1)
    assert values["step/0"] == pytest.approx(1)
    assert values["step/2"] == pytest.approx(0.25)
    cosines = [values[f"{part}cosine/{layer}"] for part in ("", "gradient_") for layer in BLOCKS]
    assert cosines == pytest.approx([1.0] * 4)
    assert {part for part in values if "/" not in part} == {"", "cosine", "gradient", "gradient_cosine"}


def _move_back(run: Run) -> None:
    with torch.no_grad():
        for p, place in ((run.model[2].weight, slice(30, 48)), (run.model[2].bias, slice(48, 51))):
            p += 0.75 * (run.path[-1][place].view(p.shape) - p)
