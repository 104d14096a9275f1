"""Memory that runs out while an objective is computed is told as such, once, wherever it ran out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgescope import EigenTracker, Monitor, Objective
from edgescope.errors import EdgescopeWarning, InputError, MemoryBudgetError, NotDifferentiableError

FULL = {
    "of torch, on a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 3 GiB"),
    "of torch, on a CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    "of Python": MemoryError(),
}


class Filling(torch.autograd.Function):
    """The identity, which fails where it is told to."""

    place = "nowhere"
    error: BaseException = MemoryError()

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        if Filling.place == "loss":
            raise Filling.error
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if Filling.place == "gradient" or (Filling.place == "product" and gradient.requires_grad):
            raise Filling.error
        return gradient.clone()


def objective() -> Objective:
    torch.manual_seed(0)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return Filling.apply(model(batch)).square().mean()  # type: ignore[no-untyped-call]

    return Objective(nn.Linear(3, 2), loss, torch.randn(8, 3), path="rebuilt", threads=1)


@pytest.fixture
def filling(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("place", ["loss", "gradient", "product"])
def test_memory_that_runs_out_is_a_memory_error(place: str, kind: str, filling: pytest.MonkeyPatch) -> None:
    watched = objective()
    filling.setattr(Filling, "place", place)
    filling.setattr(Filling, "error", FULL[kind])
    figures: dict[str, Callable[[], object]] = {
        "loss": lambda: watched.loss(torch.ones(watched.size)),
        "gradient": lambda: watched.gradient(torch.ones(watched.size)),
        "product": lambda: EigenTracker(watched).update(),
    }
    for figure in list(figures)[list(figures).index(place) :]:
        with pytest.raises(MemoryBudgetError, match=r"^memory ran out .*; try fewer samples") as caught:
            figures[figure]()
        assert "\n" not in str(caught.value)


def test_other_failures_are_not_told_as_memory(filling: pytest.MonkeyPatch) -> None:
    watched = objective()
    filling.setattr(Filling, "error", RuntimeError("shapes of the memory bank do not match"))
    filling.setattr(Filling, "place", "loss")
    with pytest.raises(InputError, match="memory bank"):
        watched.loss(torch.ones(watched.size))
    filling.setattr(Filling, "place", "product")
    with pytest.raises(NotDifferentiableError, match="memory bank"):
        watched.hvp(torch.ones(watched.size))


def test_a_monitor_tells_of_it_once(filling: pytest.MonkeyPatch) -> None:
    watched = objective()
    optimizer = torch.optim.SGD(watched.tensors, lr=0.1)
    monitor = Monitor(watched, optimizer, every=1)
    filling.setattr(Filling, "error", FULL["of torch, on a GPU"])
    filling.setattr(Filling, "place", "product")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        for _ in range(4):
            watched.model(torch.ones(2, 3)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
        monitor.close()
    assert sum("memory ran out" in str(one.message) for one in caught) == 1


@pytest.mark.parametrize("calls", [2, 4, 9, 15, 20, 22, 24, 26, 30, 40])
def test_checks_that_run_out_of_memory_are_left_and_training_goes_on(calls: int) -> None:
    """Whenever memory runs out after the first loss: while checks look at it, at the first figures, or later."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    data = (torch.randn(50, 4), torch.arange(50) % 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    called = 0

    def loss(module: nn.Module, batch: Any) -> Tensor:
        nonlocal called
        called += 1
        if called >= calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return nn.functional.cross_entropy(module(batch[0]), batch[1])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EdgescopeWarning)
        monitor = Monitor(Objective(model, loss, data), optimizer, every=2)
        for _ in range(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data[0]), data[1]).backward()
            optimizer.step()
            monitor.step()
        monitor.close()
    assert monitor.steps == 8
    texts = [str(one.message) for one in caught]
    assert 1 <= len(texts) <= 2, texts
    assert all("memory ran out" in text for text in texts)
    assert called >= calls


def test_a_first_loss_that_does_not_fit_is_refused() -> None:
    def loss(module: nn.Module, batch: Any) -> Tensor:
        raise FULL["of torch, on a CPU"]

    with pytest.raises(MemoryBudgetError, match="memory ran out"):
        Objective(nn.Linear(2, 1), loss, torch.ones(3, 2))
