"""A small network on digits that reaches the edge of stability within seconds, and its training step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.losses import half_mse

LOSS = es.supervised(half_mse)


def digits(count: int = 100, random_labels: bool = False) -> tuple[Tensor, Tensor]:
    data = es.DATA.build("digits", train=count).load()
    targets = torch.randint(10, (count,), generator=torch.Generator().manual_seed(100)) if random_labels else None
    return data.inputs.flatten(1).double(), data.targets if targets is None else targets


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10)]
    return nn.Sequential(*layers).double()


def objective_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> es.Objective:
    return es.Objective(model, LOSS, data, path="kept", threads=1)


def flat(model: nn.Module, grad: bool = False) -> Tensor:
    return torch.cat([(p.grad if grad else p.detach()).flatten() for p in model.parameters()])  # type: ignore[union-attr]


def full_batch_steps(
    model: nn.Module, data: tuple[Tensor, Tensor], step: Callable[[Callable[[], Tensor]], object], count: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """``count`` steps; number, parameters before and the gradient there of each."""

    def closure() -> Tensor:
        model.zero_grad()
        loss = LOSS(model, data)
        loss.backward()
        return loss.detach()

    for number in range(count):
        closure()
        before, gradient = flat(model), flat(model, grad=True)
        step(closure)
        yield number, before, gradient
