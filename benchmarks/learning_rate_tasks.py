"""The eight tasks on which suggested learning rates are judged: small networks, their data and optimizers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgescope as es

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """A model, a criterion of outputs and targets, data, and an optimizer by name."""

    name: str
    build: Callable[[], nn.Module]
    criterion: Callable[[Tensor, Tensor], Tensor]
    data: Callable[[], Data]
    optimizer: str

    def model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return self.build()

    @property
    def loss_fn(self) -> Any:
        return es.supervised(self.criterion)


@functools.cache
def images(count: int = 1000) -> Data:
    found = es.DATA.build("fashion-5k").load()
    return found.inputs[:count, :, ::2, ::2].contiguous(), found.targets[:count]


@functools.cache
def flat_images() -> Data:
    inputs, targets = images()
    return inputs.flatten(1), targets


@functools.cache
def one_hot_images() -> Data:
    inputs, targets = flat_images()
    return inputs, F.one_hot(targets, 10).float()


@functools.cache
def regression() -> Data:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1000, 20, generator=generator) * torch.logspace(0, -1.5, 20)
    return x, torch.tanh(x @ torch.randn(20, 3, generator=generator)) + 0.1 * torch.randn(1000, 3, generator=generator)


@functools.cache
def wave() -> Data:
    x = torch.linspace(-3, 3, 512)[:, None]
    return x, torch.sin(2 * x) + torch.cos(5 * x)


@functools.cache
def characters() -> Data:
    text = (torch.arange(4_001) ** 2 // 7 + torch.arange(4_001) // 3) % 23  # a sequence with structure
    return text[:-1].reshape(-1, 8), text[1:].reshape(-1, 8)


@functools.cache
def addition() -> Data:
    pairs = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    return pairs, pairs.sum(1) % 23


def tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def dense(*widths: int, act: type[nn.Module] = nn.ReLU, norm: bool = False) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), act()]
        return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    return build


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


class Recurrent(nn.Module):
    """A GRU over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.out = nn.Embedding(23, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, 23)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.gru(self.embed(x))[0])
        return out


class Attention(nn.Module):
    """One block of a transformer over two tokens, whose last output is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(23, 32), nn.Parameter(0.1 * torch.randn(2, 32))
        self.block = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, 23)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.block(self.embed(x) + self.place)[:, -1])
        return out


TASKS = (
    Task("MLP, cross-entropy, SGD", dense(196, 64, 64, 10), F.cross_entropy, flat_images, "sgd"),
    Task("MLP tanh, MSE, momentum", dense(196, 48, 10, act=nn.Tanh), F.mse_loss, one_hot_images, "sgd:momentum=0.9"),
    Task("CNN, cross-entropy, momentum", convolutions, F.cross_entropy, images, "sgd:momentum=0.9"),
    Task("batch norm, cross-entropy, Adam", dense(196, 64, 64, 10, norm=True), F.cross_entropy, flat_images, "adam"),
    Task("regression, MSE, AdamW", dense(20, 64, 64, 3, act=nn.GELU), F.mse_loss, regression, "adamw"),
    Task("wave, MSE, RMSprop", dense(1, 48, 48, 1, act=nn.Tanh), F.mse_loss, wave, "rmsprop"),
    Task("GRU, cross-entropy, Adam", Recurrent, tokens, characters, "adam"),
    Task("attention, cross-entropy, AdamW", Attention, F.cross_entropy, addition, "adamw:weight_decay=0.1"),
)
