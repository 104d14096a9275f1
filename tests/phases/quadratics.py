"""Losses whose learning coefficient is known in closed form: quadratics, and linear networks without noise."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

import edgescope as es


class Quadratic(nn.Module):
    """½ Σ h w² at w = ``at``."""

    def __init__(self, eigenvalues: list[float], at: float = 0.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((len(eigenvalues),), at, dtype=dtype))
        self.register_buffer("h", torch.tensor(eigenvalues, dtype=dtype))


def quadratic(eigenvalues: list[float], at: float = 0.0, *, rows: int = 10, **options: object) -> es.Objective:
    """The objective of a :class:`Quadratic` on ``rows`` samples that do not matter."""

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return 0.5 * (model.h * model.w**2).sum() + 0 * batch.mean()

    return es.Objective(Quadratic(eigenvalues, at), loss, torch.zeros(rows, 1, dtype=torch.float64), **options)


def linear_network(widths: list[int], rank: int) -> es.Objective:
    """½ ∣W_L ... W_1 - C∣², at weights that compute C: 1 on its first ``rank`` diagonal entries, else 0.

    The inputs are orthogonal, so that this is the mean loss of infinitely many samples, less that of the noise. The
    weights are the most singular ones that compute C: as few as can be differ from 0.
    """
    layers = [nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in pairwise(widths)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.weight[range(rank), range(rank)] = 1.0
    inputs = widths[0] ** 0.5 * torch.eye(widths[0], dtype=torch.float64)
    targets = torch.zeros(widths[0], widths[-1], dtype=torch.float64)
    targets[range(rank), range(rank)] = widths[0] ** 0.5
    return es.Objective(model, es.supervised(half_mse), (inputs, targets))


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(1).mean()
