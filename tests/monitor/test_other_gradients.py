"""Loops whose gradients, parameters or mode are not those of the objective: it is said once, and only there."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monitor_runs import small
from torch import Tensor, nn
from torch.optim import SGD, Adam

from edgescope.errors import EdgescopeWarning
from edgescope.losses import supervised
from edgescope.monitor import Monitor
from edgescope.objective import Objective

LOSS = supervised(F.cross_entropy)


def data(samples: int = 48) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(samples, 5, generator=generator), torch.randint(3, (samples,), generator=generator)


def penalised(model: nn.Module, x: Tensor, y: Tensor) -> None:
    (F.cross_entropy(model(x), y) + 0.5 * sum(p.square().sum() for p in model.parameters())).backward()


def clipped_by_value(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y).backward()
    nn.utils.clip_grad_value_(model.parameters(), 1e-3)


def smoothed(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y, label_smoothing=0.5).backward()


def on_other_data(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x[:12]), y[:12]).backward()


def plain(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y).backward()


def mini_batches(model: nn.Module, x: Tensor, y: Tensor) -> None:
    chosen = torch.randint(len(x), (16,))
    F.cross_entropy(model(x[chosen]), y[chosen]).backward()


def large_mini_batches(model: nn.Module, x: Tensor, y: Tensor) -> None:
    chosen = torch.randperm(len(x))[:40]
    F.cross_entropy(model(x[chosen]), y[chosen]).backward()


def told(make: Callable[[nn.Module], torch.optim.Optimizer], step: Callable[..., None], **options: Any) -> list[str]:
    torch.manual_seed(1)
    model, (x, y) = small(), data()
    optimizer = make(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        monitor = Monitor(Objective(model, LOSS, (x, y), path="kept", threads=1), optimizer, every=3, **options)
        for _ in range(24):
            optimizer.zero_grad()
            step(model, x, y)
            optimizer.step()
            monitor.step()
        monitor.close()
    return [str(one.message) for one in caught]


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda model: SGD(model.parameters(), lr=0.05),
    "momentum": lambda model: SGD(model.parameters(), lr=0.02, momentum=0.9),
    "Adam": lambda model: Adam(model.parameters(), lr=1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("step", [penalised, smoothed, on_other_data])
def test_gradients_of_another_loss_are_told_of_once(step: Callable[..., None], name: str) -> None:
    texts = [text for text in told(OPTIMIZERS[name], step) if "not those of the objective" in text]
    assert len(texts) == 1
    assert "by more than mini-batches explain" in texts[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_by_value_is_told_of(name: str) -> None:
    """Where every entry is cut, gradients have one norm, as if they were clipped by it."""
    texts = told(OPTIMIZERS[name], clipped_by_value)
    assert texts
    assert all("clipped" in text for text in texts)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("step", [plain, mini_batches, large_mini_batches])
def test_neither_plain_training_nor_mini_batches_are_told_of(step: Callable[..., None], name: str) -> None:
    assert told(OPTIMIZERS[name], step) == []


def test_parameters_that_the_objective_does_not_have_are_told_of() -> None:
    temperature = nn.Parameter(torch.tensor(1.0))

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model(x) * temperature, y).backward()

    texts = told(lambda model: SGD([*model.parameters(), temperature], lr=0.05), step)
    assert len([text for text in texts if "optimizers hold 1 parameter that the objective does not have" in text]) == 1


def test_a_group_that_is_added_later_is_told_of() -> None:
    model, (x, y) = small(), data()
    optimizer = SGD(model[2].parameters(), lr=0.1)
    objective = Objective(model, LOSS, (x, y), params=optimizer, path="kept", threads=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        monitor = Monitor(objective, optimizer, every=2)
        for number in range(8):
            if number == 4:
                assert caught == []
                optimizer.add_param_group({"params": list(model[0].parameters())})
            optimizer.zero_grad()
            plain(model, x, y)
            optimizer.step()
            monitor.step()
        monitor.close()
    assert ["24 parameters that the objective does not have" in str(one.message) for one in caught] == [True]


@pytest.mark.parametrize("evaluation", [True, False])
def test_a_model_that_is_trained_in_evaluation_is_told_of(evaluation: bool) -> None:
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)), data()
    model(5 * x + 3)
    model.train(not evaluation)
    optimizer = SGD(model.parameters(), lr=0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        monitor = Monitor(Objective(model, LOSS, (x, y), path="kept", threads=1), optimizer, every=2)
        for _ in range(6):
            optimizer.zero_grad()
            plain(model, x, y)
            optimizer.step()
            monitor.step()
        monitor.close()
    texts = [str(one.message) for one in caught]
    assert len(texts) == int(evaluation), texts
    if evaluation:
        assert "the model is in evaluation when the optimizer steps, and '1' is measured with" in texts[0]
        assert "try mode='eval'" in texts[0]


class Autocast(nn.Module):
    """A network that switches autocast on by itself, as frameworks do around a forward pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = small(), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "inside":
            with torch.autocast("cpu", torch.bfloat16):
                return self.net(x).float()  # type: ignore[no-any-return]
        if self.how == "decorated":
            return torch.autocast("cpu", torch.bfloat16)(self.net.forward)(x).float()  # type: ignore[no-any-return]
        return self.net(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["inside", "decorated"])
def test_autocast_inside_a_model_is_off_while_measuring(how: str) -> None:
    x, y = data()
    torch.manual_seed(0)
    model = Autocast(how)
    before = model(x)
    objective = Objective(model, LOSS, (x, y), path="kept", threads=1)
    w = objective.parameters()
    assert float(objective.loss()) == pytest.approx(float(F.cross_entropy(model.net(x), y).detach()), rel=1e-6)
    net, vector = copy.deepcopy(model.net).double(), torch.randn(objective.size)
    gradient = torch.autograd.grad(F.cross_entropy(net(x.double()), y), list(net.parameters()), create_graph=True)
    product = torch.autograd.grad(torch.cat([g.flatten() for g in gradient]) @ vector.double(), list(net.parameters()))
    expected = torch.cat([part.flatten() for part in product])
    torch.testing.assert_close(objective.hvp(vector, w).double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(x), before), "outside it is on, as before"
