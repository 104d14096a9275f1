"""The ReLU networks on which flatness was compared: without bias, with bias, simplified batch and layer norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError, UnknownNameError
from edgescope.models.activation import ActivationName, activation
from edgescope.models.model import MOST_LAYERS, ModelConfig
from edgescope.models.simplified_norm import SimplifiedBatchNorm, SimplifiedLayerNorm
from edgescope.near_names import suggestion
from edgescope.options import check_fields, integer, real

Architecture = Literal["no-bias", "bias", "batchnorm", "layernorm"]

EPSILON = 1e-5
"""The length below which the simplified layer normalisation divides by this number instead."""


def known_architecture(name: str) -> Architecture:
    """``name``, or an error that suggests the nearest of the four architectures."""
    names = get_args(Architecture)
    if name not in names:
        raise UnknownNameError(
            f"unknown architecture '{name}'",
            expected=f"one of {', '.join(names)}",
            hint=suggestion(name, names),
        )
    return name  # type: ignore[return-value]


class ShallowNetwork(nn.Module):
    """Layer, activation, perhaps more of both, perhaps a normalisation, linear head: (N, ...) to (N, outputs).

    Only the first layer can have a bias. ``normalize_over(inputs)`` makes batch normalisation one over these inputs,
    whatever the batch and the mode, so that the network is a function of its parameters and one input alone.
    """

    reference: Tensor | None

    def __init__(self, layers: Iterable[nn.Linear], act: nn.Module, norm: nn.Module | None, head: nn.Linear) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = act
        self.norm = norm
        self.head = head
        self.register_buffer("reference", None)

    def normalize_over(self, inputs: Float[Tensor, "M ..."]) -> ShallowNetwork:
        """Take the statistics of batch normalisation over ``inputs``, the training set of the paper; kept as a buffer.

        Raises :class:`InputError` for a network without batch normalisation, and for fewer than two inputs.
        """
        if not isinstance(self.norm, SimplifiedBatchNorm):
            raise InputError(
                "normalize_over of a network without batch normalisation", expected="architecture=batchnorm"
            )
        if len(inputs) < 2:
            raise InputError(f"batch normalisation over a batch of {len(inputs)}", expected="at least 2 samples")
        self.reference = inputs.detach().clone()
        return self

    def activations(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N width"]:
        """The last hidden layer, before any normalisation."""
        h = x.flatten(1)
        for layer in self.layers:
            h = self.activation(layer(h))
        return h

    def forward(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N outputs"]:
        h = self.activations(x)
        if isinstance(self.norm, SimplifiedBatchNorm):
            h = self.norm(h, over=None if self.reference is None else self.activations(self.reference))
        elif self.norm is not None:
            h = self.norm(h)
        return self.head(h)


@dataclass(frozen=True)
class Shallow(ModelConfig):
    """The networks of Wen, Li, Ma (2023, arXiv 2307.11007): ``depth`` layers counting the head, no output bias.

    ``architecture``: "no-bias"; "bias", in the first layer only; "batchnorm", bias and each neuron divided by its root
    mean square; "layernorm", bias and the hidden layer divided by max(its length, ``epsilon``). PyTorch's default
    initialisation, the first layer then multiplied by ``first`` (the paper divides by 100 for layer normalisation).
    """

    architecture: Architecture = "bias"
    width: int = 500
    depth: int = 2
    activation: ActivationName = "relu"
    first: float = 1.0
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        check_fields(
            self,
            self.owner,
            width=integer(1),
            depth=integer(2, MOST_LAYERS),
            first=real(above=0),
            epsilon=real(above=0),
        )

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> ShallowNetwork:
        first = nn.Linear(math.prod(input_shape), self.width, bias=self.architecture != "no-bias")
        with torch.no_grad():
            for p in first.parameters():
                p.mul_(self.first)
        hidden = [nn.Linear(self.width, self.width, bias=False) for _ in range(self.depth - 2)]
        norm: nn.Module | None = None
        if self.architecture == "batchnorm":
            norm = SimplifiedBatchNorm(self.width)
        elif self.architecture == "layernorm":
            norm = SimplifiedLayerNorm(self.epsilon)
        head = nn.Linear(self.width, outputs, bias=False)
        return ShallowNetwork([first, *hidden], activation(self.activation), norm, head)
