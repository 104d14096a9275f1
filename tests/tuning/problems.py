"""Problems whose critical learning rates are known, as functions of a user's make them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgescope as es

CURVATURE = 4.0


class Bowl(nn.Module):
    """One curvature in all directions: the loss of a batch is 2 ||w||² times the mean of the batch."""

    def __init__(self, *, matrix: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones((2, 2) if matrix else 4, dtype=torch.float64))


def bowl_loss(model: nn.Module, batch: Tensor) -> Tensor:
    assert isinstance(model, Bowl)
    return 0.5 * CURVATURE * model.w.square().sum() * batch.mean()


def ones() -> Tensor:
    return torch.ones(4, 1, dtype=torch.float64)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 1))


def samples(count: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 5, generator=generator)
    return x, x[:, :1].sin()


def regression() -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    return network(), es.supervised(F.mse_loss), samples()
