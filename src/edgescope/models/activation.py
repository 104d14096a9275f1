"""The activation functions that models offer, by name."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from edgescope.errors import InputError

ActivationName = Literal["tanh", "relu", "gelu", "softplus"]

_KINDS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "softplus": nn.Softplus}


def activation(name: ActivationName) -> nn.Module:
    """A new module of this activation, with torch's own constants (GELU is the exact one, by the error function)."""
    if name not in _KINDS:
        raise InputError(f"unknown activation '{name}'", expected=f"one of {', '.join(get_args(ActivationName))}")
    return _KINDS[name]()
