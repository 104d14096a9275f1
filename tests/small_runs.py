"""Configurations of small training runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgescope.models import MODELS, ModelConfig
from edgescope.training import RunConfig


@dataclass(frozen=True)
class AllThatMoves(ModelConfig):
    """A network with running statistics, which draws from torch's generator and from NumPy's."""

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), Noise(), nn.Dropout(0.2), nn.Linear(6, 10)
        )


class Noise(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (0.9 + 0.2 * np.random.rand()) if self.training else inputs  # noqa: NPY002


MODELS.add("all-that-moves", AllThatMoves)
MEASURED = (
    "loss",
    "accuracy",
    "sharpness:k=2",
    "effective_sharpness",
    "ratio",
    "directional_smoothness",
    "norms",
    "time",
)
SMALL = RunConfig(
    data="digits",
    model="mlp:widths=6",
    lr=0.1,
    steps=24,
    train=60,
    test=20,
    every=4,
    measures=MEASURED,
    checkpoint_every=10,
    threads=1,
    path="kept",
)


def small(**changes: Any) -> RunConfig:
    return dataclasses.replace(SMALL, **changes)
