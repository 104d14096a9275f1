"""The optimizer inside the wrappers that training frameworks put around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from edgescope.errors import InputError, NotKnownError

FRAMEWORKS = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "ray", "transformers")
"""Packages whose wrappers take the step of the optimizer inside; those of other packages may step differently."""

SHARDED = ("ZeroRedundancyOptimizer", "DeepSpeedZeroOptimizer", "DeepSpeedZeroOptimizer_Stage3", "OSS")
"""Optimizers of which each process keeps a part of the state."""


@runtime_checkable
class Wraps(Protocol):
    """A wrapper with an optimizer as its ``optimizer``, such as Accelerate's and Fabric's."""

    optimizer: Any


@runtime_checkable
class WrapsPrivately(Protocol):
    """A wrapper with an optimizer as its ``_optimizer``, such as Lightning's."""

    _optimizer: Any


OptimizerLike: TypeAlias = torch.optim.Optimizer | Wraps | WrapsPrivately
"""An optimizer, or the wrapper of a framework around one (:func:`unwrapped`)."""


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The ``torch.optim`` object inside the wrappers of a framework (Accelerate, Lightning, Fabric, ...), however many.

    A wrapper is an object of one of the ``FRAMEWORKS`` with an optimizer as its ``optimizer`` or ``_optimizer``; the
    package need not be installed. Optimizers of other packages that have another one inside, such as SAM or Lookahead,
    are returned as they are, since their own step differs from the step of the one inside.

    Raises :class:`NotKnownError` for optimizers whose state is distributed over processes (ZeRO), and
    :class:`InputError` for what is no optimizer.
    """
    seen: set[int] = set()
    while id(optimizer) not in seen:
        seen.add(id(optimizer))
        if any(kind.__name__ in SHARDED for kind in type(optimizer).__mro__):
            raise NotKnownError(
                f"the update rule of {type(optimizer).__name__} is not known: each process holds a part of its state",
                hint="the plain torch.optim optimizer, in a run on one device",
            )
        inner = inside(optimizer)
        if inner is None or not _of_framework(optimizer):
            break
        optimizer = inner
    if isinstance(optimizer, type):
        example = "(model.parameters(), ...)"
        raise InputError(
            f"the class {optimizer.__name__} as an optimizer",
            expected="an instance of a torch.optim.Optimizer",
            hint=f"{optimizer.__name__}{example}" if issubclass(optimizer, torch.optim.Optimizer) else None,
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        inner = inside(optimizer)
        raise InputError(
            f"an optimizer of type {type(optimizer).__name__}",
            expected="a torch.optim.Optimizer",
            hint=None if inner is None else f"the {type(inner).__name__} inside, if its step is the step that is taken",
        )
    return optimizer


def inside(optimizer: Any) -> Any:
    """What is wrapped in ``optimizer``: an object that can step; None where nothing is."""
    for name in ("optimizer", "_optimizer"):
        inner = getattr(optimizer, name, None)
        if callable(getattr(inner, "step", None)):
            return inner
    return None


def check_not_sharded(parameters: Iterable[Tensor]) -> None:
    """Raise NotKnownError where a parameter of an optimizer is a flat part of tensors sharded over processes."""
    for p in parameters:
        if type(p).__name__ == "FlatParameter" or getattr(p, "_fsdp_flattened", False):
            raise NotKnownError(
                "the update rule of an optimizer whose parameters are sharded over processes is not known",
                hint="a run on one device, DistributedDataParallel, or fully_shard",
            )


def _of_framework(optimizer: Any) -> bool:
    """Whether the class that says what a step is belongs to one of the frameworks."""
    own = next((kind for kind in type(optimizer).__mro__ if "step" in vars(kind)), object)
    return own.__module__.split(".")[0] in FRAMEWORKS
