"""Small objectives for the tests of flows: functions of one tensor, the scalar model, a network on random data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import edgescope as es

NOTHING = torch.zeros(1, 1, dtype=torch.float64)
"""The batch of a loss that needs no data."""


class Point(nn.Module):
    """Tensors as a model."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.parts = nn.ParameterList([nn.Parameter(tensor.clone()) for tensor in tensors])


def function_of(loss_of: Callable[..., Tensor], *tensors: Tensor) -> es.Objective:
    """The objective ``loss_of(*tensors)``."""
    return es.Objective(Point(*tensors), lambda model, _: loss_of(*model.parts), [NOTHING], threads=None)


def quadratic(H: Tensor, w: Tensor) -> es.Objective:
    """w^T H w / 2 of one tensor, in row-major order."""
    return function_of(lambda part: 0.5 * part.reshape(-1) @ H @ part.reshape(-1), w)


def valley(a: float, x: float, y: float) -> es.Objective:
    """L = y x²/2 - a y: the sharpness y grows at the rate a, and oscillations of x lower it."""
    numbers = (torch.tensor(value, dtype=torch.float64) for value in (x, y))
    return function_of(lambda x, y: 0.5 * y * x**2 - a * y, *numbers)


def network(seed: int = 0, dtype: torch.dtype = torch.float64, samples: int = 12, **options: Any) -> es.Objective:
    """A tanh network 3-4-2 on random data, half squared error."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(samples, n, generator=generator, dtype=torch.float64).to(dtype) for n in (3, 2))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    return es.Objective(model, es.supervised(es.losses.half_mse), (x, y), threads=None, **options)
