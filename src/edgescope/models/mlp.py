"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn

from edgescope.models.activation import ActivationName, activation
from edgescope.models.model import ModelConfig, check_layers
from edgescope.options import check_fields, real


@dataclass(frozen=True)
class MLP(ModelConfig):
    """Fully connected layers of the given widths over the flattened input, and a linear head.

    PyTorch default initialisation, all of it times ``gain``. With ``widths=200x200`` and tanh it is the fully connected
    network of Cohen et al. (2021); without widths (``widths=``) it is a linear model.
    """

    widths: tuple[int, ...] = (200, 200)
    activation: ActivationName = "tanh"
    bias: bool = True
    gain: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, self.owner, widths=check_layers, gain=real(above=0))

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in itertools.pairwise((math.prod(input_shape), *self.widths)):
            layers += [nn.Linear(wide, narrow, bias=self.bias), activation(self.activation)]
        last = self.widths[-1] if self.widths else math.prod(input_shape)
        network = nn.Sequential(*layers, nn.Linear(last, outputs, bias=self.bias))
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.mul_(self.gain)
        return network
