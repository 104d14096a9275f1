"""Losses whose central flow is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgescope as es

DRIVE = 1e-4


class Valley(nn.Module):
    """L = y x^2/2 - a y: the sharpness y rises at the rate a until the oscillation of x has variance 2a."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([x], dtype=torch.float64))
        self.y = nn.Parameter(torch.tensor([y], dtype=torch.float64))


def valley_loss(model: nn.Module, drive: Tensor) -> Tensor:
    return (0.5 * model.y * model.x**2 - drive.mean() * model.y).sum()


def valley(x: float, y: float, drive: float) -> es.Objective:
    return es.Objective(Valley(x, y), valley_loss, torch.full((1,), drive, dtype=torch.float64), threads=1)


class Valleys(nn.Module):
    """L = x^T M x/2 - <C, M> with M symmetric: the oscillation of x has covariance 2C."""

    def __init__(self, curvature: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full((len(curvature),), 1e-4, dtype=torch.float64))
        self.m = nn.Parameter(curvature.clone())


def valleys_loss(model: nn.Module, drive: Tensor) -> Tensor:
    return 0.5 * model.x @ model.m @ model.x - (drive * model.m).sum()


def valleys(curvature: Tensor, drive: Tensor) -> es.Objective:
    return es.Objective(Valleys(curvature), valleys_loss, drive, threads=1, check=False)


class Network(nn.Module):
    """A small smooth network, whose sharpness rises in training."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
            self.data = (torch.randn(24, 6, dtype=dtype), torch.randn(24, 3, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def sharpened(self) -> Network:
        """The same after 75 steps, where its sharpness rises."""
        for _ in range(75):
            slopes = torch.autograd.grad(es.losses.half_mse(self(self.data[0]), self.data[1]), list(self.parameters()))
            with torch.no_grad():
                for p, slope in zip(self.parameters(), slopes, strict=True):
                    p.sub_(0.3 * slope)
        return self

    def objective(self, **options: object) -> es.Objective:
        return es.Objective(self, es.supervised(es.losses.half_mse), self.data, threads=1, **options)
