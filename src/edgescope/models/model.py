"""What a model by name is: a configuration that builds a network for given inputs and outputs from a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from edgescope.errors import InputError


class ModelConfig(ABC):
    """A network's options. A new model is a file with a dataclass that derives from this, and one registered line."""

    @abstractmethod
    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """The network, its parameters drawn from torch's global generator; raises InputError for a size that fails."""

    def build(self, input_shape: tuple[int, ...], outputs: int, seed: int = 0) -> nn.Module:
        """The network for inputs of shape ``(N, *input_shape)``, with ``outputs`` outputs, on the CPU.

        The same seed gives the same parameters, bit for bit; torch's random state is left as it was. Raises
        :class:`InputError` where the options do not fit the shape.
        """
        if not input_shape or min(input_shape) < 1 or outputs < 1:
            raise InputError(
                f"a model for inputs of shape {tuple(input_shape)} and {outputs} outputs",
                expected="a shape and a number of outputs that are at least 1",
            )
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.random.default_generator.manual_seed(seed)
            return self.assemble(tuple(input_shape), outputs)


def parameter_count(model: nn.Module) -> int:
    """How many trainable parameters ``model`` has; one that is shared counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def require_image(input_shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Channels, height and width of images, or an InputError that names the model."""
    if len(input_shape) != 3:
        raise InputError(
            f"{name} for inputs of shape {input_shape}",
            expected="images of shape (channels, height, width)",
            hint="mlp",
        )
    channels, height, width = input_shape
    return channels, height, width


def require_positive(name: str, **sizes: int | tuple[int, ...]) -> None:
    """Raise an InputError for the first size, or member of a tuple of sizes, that is below 1."""
    for option, size in sizes.items():
        if min(size if isinstance(size, tuple) else (size,), default=1) < 1:
            raise InputError(f"option '{option}' of model '{name}' is {size}", expected="at least 1")
