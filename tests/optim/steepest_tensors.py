"""Tensors of several shapes with random gradients, and the geometries to descend in."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = [(3, 4), (5,), (2, 3, 2), ()]
GEOMETRIES = ["euclidean", "linf", "blocks", "spectral", "diagonal:log-uniform", "mixed"]


def draw(shapes: list[tuple[int, ...]] = SHAPES, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]


def give_gradients(tensors: list[Tensor], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    for t in tensors:
        t.grad = torch.randn(t.shape, dtype=torch.float64, generator=generator).to(t.dtype)
    return flat([t.grad for t in tensors])


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])
