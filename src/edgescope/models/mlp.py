"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import nn

from edgescope.models.activation import ActivationName, activation
from edgescope.models.model import ModelConfig, require_positive


@dataclass(frozen=True)
class MLP(ModelConfig):
    """Fully connected layers of the given widths over the flattened input, and a linear head.

    PyTorch default initialisation. With ``widths=200x200`` and tanh it is the fully connected network of Cohen et
    al. (2021); without widths (``widths=``) it is a linear model.
    """

    widths: tuple[int, ...] = (200, 200)
    activation: ActivationName = "tanh"
    bias: bool = True

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        require_positive("mlp", widths=self.widths)
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in itertools.pairwise((math.prod(input_shape), *self.widths)):
            layers += [nn.Linear(wide, narrow, bias=self.bias), activation(self.activation)]
        last = self.widths[-1] if self.widths else math.prod(input_shape)
        return nn.Sequential(*layers, nn.Linear(last, outputs, bias=self.bias))
