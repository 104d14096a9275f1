"""What a model by name is: a configuration that builds a network for given inputs and outputs from a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import torch
from torch import nn

from edgescope.errors import EdgescopeError, InputError
from edgescope.memory import require
from edgescope.options import check_each, check_seed, integer

MOST_LAYERS: Final = 1000
"""Layers, blocks or stages of a network, at most."""

BYTES: Final = torch.float32.itemsize
"""Of a parameter as it is made."""


class ModelConfig(ABC):
    """A network's options. A new model is a file with a dataclass that derives from this, and one registered line."""

    @property
    def owner(self) -> str:
        """What the options belong to, for error messages."""
        return f"model '{type(self).__name__.lower()}'"

    @abstractmethod
    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """The network, its parameters drawn from torch's global generator; raises InputError for a size that fails."""

    def build(self, input_shape: tuple[int, ...], outputs: int, seed: int = 0) -> nn.Module:
        """The network for inputs of shape ``(N, *input_shape)``, with ``outputs`` outputs, on the CPU.

        The same seed gives the same parameters, bit for bit; torch's random state is left as it was. Raises
        :class:`InputError` where the options do not fit the shape, and :class:`MemoryBudgetError`, before anything is
        allocated, where the parameters do not fit in memory.
        """
        seed = check_seed(self.owner, seed)
        if not input_shape or min(input_shape) < 1 or outputs < 1:
            raise InputError(
                f"a model for inputs of shape {tuple(input_shape)} and {outputs} outputs",
                expected="a shape and a number of outputs that are at least 1",
            )
        with torch.random.fork_rng(devices=[]):
            self._require_memory(tuple(input_shape), outputs)
            torch.random.default_generator.manual_seed(seed)
            with torch.device("cpu"):
                return self.assemble(tuple(input_shape), outputs)

    def _require_memory(self, input_shape: tuple[int, ...], outputs: int) -> None:
        """Refuse a network whose parameters do not fit, from its shapes on the meta device, which takes no memory."""
        try:
            with torch.device("meta"):
                count = parameter_count(self.assemble(input_shape, outputs))
        except EdgescopeError:
            raise
        except Exception as error:
            if "overflow" not in str(error).lower():
                return  # a model of the user's that cannot be assembled there: it is built unseen
            count = 2**63
        size = f"{count:,}" if count < 2**63 else "2^63 or more"
        require(BYTES * count, f"{self.owner} with {size} parameters", hint="a narrower or shallower one")


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


def check_layers(owner: str, name: str, value: Any, *, hint: str | None = None) -> tuple[int, ...]:
    """The widths of layers: whole numbers of at least 1, at most a thousand of them, possibly none."""
    widths = check_each(owner, name, value, check=integer(1), hint=hint)
    if len(widths) > MOST_LAYERS:
        raise InputError(f"{owner} with {len(widths):,} {name}", expected=f"at most {MOST_LAYERS:,}")
    return widths


def check_some_layers(owner: str, name: str, value: Any, *, hint: str | None = None) -> tuple[int, ...]:
    """The widths of layers, of which there has to be one."""
    widths = check_layers(owner, name, value, hint=hint)
    if not widths:
        raise InputError(f"{owner} without {name}", expected="at least one", hint=hint)
    return widths
