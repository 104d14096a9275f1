"""Checks of a loss: that it has the right form, and depends on the parameters and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgescope.errors import EdgescopeError, InputError, NotDeterministicError


def refuse_options(
    model: object, loss_fn: object, *, mode: str, l2: float, chunk: int | None, dtype: torch.dtype | None
) -> None:
    """Refuse options of an objective that mean nothing, whatever the data."""
    if not isinstance(model, nn.Module):
        raise InputError(f"a model of type {type(model).__name__}", expected="a torch.nn.Module")
    if not callable(loss_fn):
        raise InputError(f"a loss of type {type(loss_fn).__name__}", expected="a function loss_fn(model, batch)")
    if mode not in ("eval", "train"):
        raise InputError(f"mode '{mode}'", expected="'eval' or 'train'")
    if not 0 <= l2 < math.inf:
        raise InputError(f"l2 = {l2}", expected="a finite number, not negative")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk = {chunk}", expected="at least one sample")
    if dtype is not None and not dtype.is_floating_point:
        raise InputError(f"dtype = {dtype}", expected="a real floating-point type")


def refuse_loss(evaluate: Callable[[], Tensor], tensors: Sequence[Tensor]) -> None:
    """Refuse a loss that is no finite scalar, that depends on none of the tensors, or on more than them.

    Cost: two losses and a gradient.
    """
    loss = evaluated(evaluate)
    _refuse_independent(loss, tensors)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value} at these parameters",
            expected="a finite loss",
            hint="a checkpoint from before the run diverged, or a smaller learning rate",
        )
    with torch.no_grad():
        _refuse_random(evaluate, value, loss.dtype)


def evaluated(work: Callable[[], Tensor]) -> Tensor:
    """The loss that ``work`` returns, checked to be one finite real number; its own failures in one line."""
    try:
        loss = work()
    except EdgescopeError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()
        raise InputError(
            f"the loss function failed ({type(error).__name__}: {first[0] if first else 'no message'})",
            expected="loss_fn(model, batch) to return the mean loss of the batch",
            hint="shapes, label range and types of the data",
        ) from error
    if not isinstance(loss, Tensor):
        raise InputError(f"the loss function returned a {type(loss).__name__}", expected="a scalar tensor")
    if loss.ndim != 0:
        raise InputError(
            f"the loss function returned a tensor of shape {tuple(loss.shape)}",
            expected="a scalar, the mean loss of the batch",
            hint=".mean()",
        )
    if not loss.is_floating_point():
        raise InputError(f"the loss has type {loss.dtype}", expected="a real floating-point scalar")
    return loss


def _refuse_independent(loss: Tensor, tensors: Sequence[Tensor]) -> None:
    """Refuse a loss that depends on none of the tensors."""
    if loss.requires_grad:
        try:
            if any(g is not None for g in torch.autograd.grad(loss, tensors, allow_unused=True)):
                return
        except RuntimeError as error:
            raise InputError(f"the gradient of the loss failed ({str(error).splitlines()[0]})") from error
    raise InputError(
        "the loss does not depend on the model's trainable parameters",
        expected="a loss computed from loss_fn's own argument `model`, without detach() or no_grad()",
    )


def _refuse_random(evaluate: Callable[[], Tensor], first: float, dtype: torch.dtype) -> None:
    """Evaluate the loss again; when it differs, do it once more and name the random operations that run."""
    second = float(evaluate())
    slack = 1e-10 if dtype == torch.float64 else 1e-5
    if abs(first - second) <= slack * max(abs(first), abs(second), 1e-12):
        return
    with _RandomOperations() as seen:
        evaluate()
    named = ", ".join(f"'{name}'" for name in sorted(seen.names))
    raise NotDeterministicError(
        f"two evaluations of the loss at the same parameters gave {first:.6g} and {second:.6g}"
        + (f" (random operation {named})" if named else ""),
        expected="a deterministic function of the parameters",
        hint="mode='eval', dropout off, or random numbers drawn once and kept with the data",
    )


class _RandomOperations(TorchDispatchMode):
    """Collects the names of operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
