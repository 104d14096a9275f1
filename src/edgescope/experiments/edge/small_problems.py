"""Small problems of the study `edge`: digits with random labels, for a tanh network and a linear one, and two sines.

Each function is what ``RunConfig(function="module:function")`` takes: it is called after ``torch.manual_seed(seed)``
and returns model, loss function and data in float64.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from edgescope.data import DATA
from edgescope.losses import Supervised, half_mse, supervised
from edgescope.models import MODELS

TrainingParts: TypeAlias = tuple[nn.Module, Supervised, tuple[Tensor, Tensor]]

SAMPLES = 96
"""Divisible by the batch sizes: a smaller last batch of each epoch, with a noisier gradient, would limit the rate."""


def random_digits() -> TrainingParts:
    """A tanh network 64-16-16-10 on 96 images of digits whose labels are drawn at random, half-squared loss."""
    return _digits("mlp:widths=16x16,activation=tanh")


def linear_random_digits() -> TrainingParts:
    """A linear network on the same data: a quadratic with noise, since it cannot fit them."""
    return _digits("mlp:widths=")


def true_digits() -> TrainingParts:
    """The network of :func:`random_digits` with the labels of the images."""
    return _digits("mlp:widths=16x16,activation=tanh", random=False)


def sines() -> TrainingParts:
    """A tanh network 1-40-1 on sin x + sin 4x at 64 points, which Adam fits with spikes."""
    x = torch.linspace(-math.pi, math.pi, 64, dtype=torch.float64)[:, None]
    model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1)).double()
    return model, supervised(half_mse), (x, torch.sin(x) + torch.sin(4 * x))


def _digits(model: str, random: bool = True) -> TrainingParts:
    data = DATA.build("digits", train=SAMPLES).load()
    targets = torch.randint(data.classes, (SAMPLES,)) if random else data.targets
    seed = int(torch.randint(2**31, ()))
    network = MODELS.build(model).build(data.input_shape, data.classes, seed).double()
    return network, supervised(half_mse), (data.inputs.double(), targets)
