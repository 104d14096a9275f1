"""A small regression for tests of SAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def problem(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    x, y = (torch.randn(6, size, generator=generator).to(dtype) for size in (3, 2))
    return model, x, y


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def backward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = squared(model, x, y)
    loss.backward()
    return loss
