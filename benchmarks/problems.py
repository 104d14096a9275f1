"""The work that the benchmarks measure on: three networks with their data, made the same way for everyone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.data import DATA
from edgescope.losses import cross_entropy
from edgescope.models import MODELS


def one_hot(targets: Tensor) -> Tensor:
    return nn.functional.one_hot(targets).float()


@dataclass
class Problem:
    """A model, its criterion and one batch that holds all data."""

    name: str
    model: nn.Module
    criterion: object
    inputs: Tensor
    targets: Tensor

    def loss(self) -> Tensor:
        return self.criterion(self.model(self.inputs), self.targets)  # type: ignore[operator]

    def objective(self, **options: object) -> es.Objective:
        return es.Objective(self.model, es.supervised(self.criterion), (self.inputs, self.targets), **options)

    def descend(self, lr: float, steps: int) -> None:
        """Plain full-batch gradient descent."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr)
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss().backward()
            optimizer.step()


def mlp(samples: int = 5000) -> Problem:
    """784-200-200-10 tanh on ``samples`` images of fashion-5k, torch's mean squared loss, which all peers take."""
    data = DATA.build("fashion-5k", train=samples).load()
    model = MODELS.build("mlp").build(data.input_shape, data.classes, seed=0)
    return Problem(f"MLP 784-200-200-10, {samples:,} samples", model, nn.MSELoss(), data.inputs, one_hot(data.targets))


def cnn(samples: int = 1000) -> Problem:
    """Two 3x3 convolutions with 16 channels on 28 x 28 images, torch's mean squared loss, which all peers take."""
    data = DATA.build("fashion-5k", train=samples).load()
    model = MODELS.build("cnn:channels=16x16").build(data.input_shape, data.classes, seed=0)
    return Problem(f"CNN 16-16, {samples:,} samples", model, nn.MSELoss(), data.inputs, one_hot(data.targets))


def transformer(sequences: int = 64, length: int = 64, tokens: int = 65) -> Problem:
    """Two blocks of width 128 on random sequences, cross-entropy a token."""
    numbers = torch.Generator().manual_seed(0)
    inputs = torch.randint(tokens, (sequences, length), generator=numbers)
    targets = torch.randint(tokens, (sequences, length), generator=numbers)
    model = MODELS.build("gpt:width=128").build((length,), tokens, seed=0)
    return Problem(
        f"transformer, 2 blocks, width 128, {sequences} x {length} tokens", model, cross_entropy, inputs, targets
    )
