"""Five tensors of different shapes, 30 numbers together, and gradients of changing size for them."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = [(3, 4), (5,), (4, 2), (2,), (3,)]


def draw(seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def give_gradients(tensors: list[Tensor], step: int) -> Tensor:
    for t in tensors:
        t.grad = torch.randn_like(t) * 10.0 ** (step % 3 - 1)
    return flat([t.grad for t in tensors])
