"""Operations that are computed by their formulas while measuring, because torch's own derivatives are wrong or fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode


class Formulas(TorchFunctionMode):
    """Inside, weight normalisation and the mean squared error are made of elementary operations.

    The second derivative of torch's fused weight normalisation takes the norms as constant, without an error; the
    forward derivative of the gradient of its ``mse_loss`` raises.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _BY_FORMULA.get(func, func)(*args, **(kwargs or {}))


def needs_formulas(module: nn.Module) -> bool:
    """Whether double backward through this module alone goes wrong without :class:`Formulas`."""
    hooks = module._forward_pre_hooks.values()
    return isinstance(module, _WeightNorm) or any(isinstance(hook, WeightNorm) for hook in hooks)


def _weight_norm(direction: Tensor, length: Tensor, dim: int = 0) -> Tensor:
    return direction * (length / torch.norm_except_dim(direction, 2, dim))


def _mse_loss(outputs: Tensor, targets: Tensor, *others: Any, reduction: Any = "mean", **options: Any) -> Tensor:
    if others or any(option is not None for option in options.values()):  # weights, deprecated arguments
        return nn.functional.mse_loss(outputs, targets, *others, reduction=reduction, **options)  # type: ignore[misc]
    squares = (outputs - targets).square()
    return {"none": squares, "mean": squares.mean(), "sum": squares.sum()}[reduction]


_BY_FORMULA: dict[Any, Callable[..., Tensor]] = {
    torch._weight_norm: _weight_norm,
    nn.functional.mse_loss: _mse_loss,
}
