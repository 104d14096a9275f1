"""Small convolutional networks without normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from edgescope.errors import InputError
from edgescope.models.activation import ActivationName, activation
from edgescope.models.model import ModelConfig, check_layers, check_some_layers, require_image
from edgescope.options import check_fields

PoolName = Literal["average", "max"]


@dataclass(frozen=True)
class CNN(ModelConfig):
    """Padded 3x3 convolutions, the activation and a 2x2 pooling after each, and a linear head.

    The layout of Cohen et al. (2021) with its two layers of 32 channels; ``dense`` puts fully connected layers before
    the head (Chen et al. 2026: ``channels=32x64,dense=128``). Pooling averages unless told to take the maximum; an odd
    row or column at the edge is dropped by it. PyTorch default initialisation.
    """

    channels: tuple[int, ...] = (32, 32)
    activation: ActivationName = "relu"
    pool: PoolName = "average"
    dense: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, self.owner, channels=check_some_layers, dense=check_layers)

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = require_image(input_shape, "cnn")
        shrink = 2 ** len(self.channels)
        if min(height, width) < shrink:
            raise InputError(
                f"images of {height} x {width} pixels for a cnn with {len(self.channels)} poolings",
                expected=f"at least {shrink} x {shrink} pixels",
                hint="fewer channels= entries",
            )
        layers: list[nn.Module] = []
        for filters in self.channels:
            pool = nn.MaxPool2d(2) if self.pool == "max" else nn.AvgPool2d(2)
            layers += [nn.Conv2d(channels, filters, 3, padding=1), activation(self.activation), pool]
            channels = filters
        features = channels * (height // shrink) * (width // shrink)
        layers.append(nn.Flatten())
        for width in self.dense:
            layers += [nn.Linear(features, width), activation(self.activation)]
            features = width
        return nn.Sequential(*layers, nn.Linear(features, outputs))
