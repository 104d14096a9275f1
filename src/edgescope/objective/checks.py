"""Checks of a loss: that it has the right form, and depends on the parameters and on nothing else."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from edgescope.errors import EdgescopeError, InputError, NotDeterministicError, NotKnownError, one_of
from edgescope.losses import Loss, supervised
from edgescope.memory import out_of_memory_error
from edgescope.objective.modes import Mode
from edgescope.objective.watching import Watching
from edgescope.options import shown

_SUPERVISED: Final = "edgescope.supervised(criterion), such as supervised(torch.nn.functional.cross_entropy)"


def is_criterion(loss_fn: object) -> bool:
    """Whether this is a criterion of outputs and targets, of torch or of ``LOSSES``, and not a loss of a model."""
    criterion = loss_fn.func if isinstance(loss_fn, functools.partial) else loss_fn
    homes = ("torch.nn.functional", "torch._C._nn", Loss.__module__)
    return isinstance(criterion, nn.modules.loss._Loss | Loss) or (
        inspect.isroutine(criterion) and getattr(criterion, "__module__", "") in homes
    )


def as_loss(loss_fn: Any) -> Any:
    """A criterion as a loss of model and batch, where batches are inputs and targets; a loss as it is."""
    return supervised(loss_fn) if is_criterion(loss_fn) else loss_fn


def refuse_options(model: object, loss_fn: object, *, mode: str, dtype: torch.dtype | None, count: object) -> None:
    """Refuse options of an objective that mean nothing, whatever the data."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise InputError(
            f"the class {model.__name__} as model", expected="an instance of it", hint=f"{model.__name__}(...)"
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"a model of type {type(model).__name__}", expected="a torch.nn.Module")
    if isinstance(loss_fn, type):
        raise InputError(
            f"the class {loss_fn.__name__} as loss", expected="a function loss_fn(model, batch)", hint=_SUPERVISED
        )
    if not callable(loss_fn):
        raise InputError(f"a loss of type {type(loss_fn).__name__}", expected="a function loss_fn(model, batch)")
    criterion = loss_fn.func if isinstance(loss_fn, functools.partial) else loss_fn
    if is_criterion(loss_fn):
        raise InputError(
            f"the criterion {getattr(criterion, '__name__', type(criterion).__name__)} as loss",
            expected="a function loss_fn(model, batch)",
            hint=_SUPERVISED,
        )
    one_of(mode, get_args(Mode), "mode")
    if dtype is not None:
        refuse_precision(dtype)
    if count is not None and not callable(count):
        raise InputError(
            f"count of type {type(count).__name__}", expected="a function count(batch), the weight of a batch's loss"
        )


def refuse_precision(dtype: object) -> None:
    """Refuse what is no precision to measure in."""
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype = {dtype}", expected="a real floating-point type of torch")


def check_device_name(owner: str, name: str) -> None:
    """Refuse what names no device that numbers can be computed on; whether it is on this machine is not asked."""
    try:
        known = torch.device(name).type != "meta"
    except RuntimeError:
        known = False
    if not known:
        raise InputError(f"{owner} on the device {shown(name)}", expected="a device such as cpu, cuda or cuda:1")


def check_device(owner: str, device: str | None, *, here: bool = True) -> None:
    """Raise :class:`InputError` for a name of no device, or, where it is used ``here``, of one not on this machine."""
    if device is not None:
        check_device_name(owner, device)
        if here:
            usable_device(device)


def usable_device(device: torch.device | str) -> torch.device:
    """``device``, once numbers could be made there; InputError where it is unknown, not here, or without float64.

    Sums over samples and inner products are in float64, which Apple's GPUs do not have.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        kinds = ["cpu", *(kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available())]
        raise InputError(
            f"device '{device}' cannot be used here ({str(error).splitlines()[0].split('. ')[0]})",
            expected=f"one of {', '.join(kinds)}",
        ) from None
    try:
        torch.empty(1, dtype=torch.float64, device=found)
    except (RuntimeError, TypeError):
        raise InputError(
            f"device '{found.type}' has no float64, in which sums are added",
            expected="a device with float64, such as cpu or cuda",
            hint='device="cpu", which measures there; the model and its training may stay where they are',
        ) from None
    return found


def refuse_loss(evaluate: Callable[[], Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Refuse a loss that is no finite scalar, that depends on none of the tensors, or on more than them; return it.

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
    return loss


def evaluated(work: Callable[[], Tensor]) -> Tensor:
    """The loss that ``work`` returns, checked to be one finite real number; its own failures in one line."""
    try:
        loss = work()
    except EdgescopeError:
        raise
    except Exception as error:
        full = out_of_memory_error(error)
        if full is not None:
            raise full from error
        first = str(error).strip().splitlines() or ["no message"]
        hint = "shapes, label range and types of the data"
        if "Expected more than 1 value per channel" in first[0]:
            hint = "batches of at least two samples (drop_last=True), as batch statistics need them, or mode='eval'"
        elif isinstance(error, TypeError | AttributeError):
            hint += f"; {_SUPERVISED}, for a criterion of outputs and targets"
        raise InputError(
            f"the loss function failed ({type(error).__name__}: {first[0]})",
            expected="loss_fn(model, batch) to return the mean loss of the batch",
            hint=hint,
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
    if not differ(first, second, dtype):
        return
    with RandomOperations() as seen:
        evaluate()
    named = ", ".join(f"'{name}'" for name in sorted(seen.names))
    raise NotDeterministicError(
        f"two evaluations of the loss at the same parameters gave {first:.6g} and {second:.6g}"
        + (f" (random operation {named})" if named else ""),
        expected="a deterministic function of the parameters",
        hint="mode='auto' or 'eval', dropout off, or random numbers drawn once and kept with the data",
    )


def differ(first: float, second: float, dtype: torch.dtype) -> bool:
    """Whether two losses of this precision differ by more than rounding."""
    slack = 1e-10 if dtype == torch.float64 else 1e-5
    return abs(first - second) > slack * max(abs(first), abs(second), 1e-12)


class RandomOperations(Watching):
    """Collects the names of operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def checked_vector(w: Any, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A parameter vector (size,) where it is to be measured; InputError for anything else."""
    if not isinstance(w, Tensor) or w.shape != (size,):
        raise InputError(f"a parameter vector of {_form(w)}", expected=f"shape ({size},)")
    return w.detach().to(device, dtype)


def checked_rows(V: Any, size: int, device: torch.device, dtype: torch.dtype, *, finite: bool = False) -> Tensor:
    """A vector (size,) or the columns of a block (size, k) as rows; InputError for anything else.

    ``finite``: whether the entries are is not looked at.
    """
    if not isinstance(V, Tensor) or V.ndim not in (1, 2) or V.shape[0] != size:
        raise InputError(
            f"a block of vectors of {_form(V)}", expected=f"shape ({size},) or ({size}, k), one row a parameter"
        )
    rows = (V[None] if V.ndim == 1 else V.T).detach().to(device, dtype).contiguous()
    # The sum tells at a hundredth of the cost; that of finite numbers may overflow.
    if not finite and not math.isfinite(float(rows.sum())) and not bool(rows.isfinite().all()):
        raise InputError("a block of vectors with NaN or infinity", expected="finite numbers")
    return rows


def checked_supervised(loss_fn: Any, what: str) -> Any:
    """A loss function that tells outputs and criterion apart, as ``what`` needs it; NotKnownError for others."""
    if not all(hasattr(loss_fn, name) for name in ("outputs", "targets", "criterion_of")):
        raise NotKnownError(
            f"this loss function does not separate outputs and criterion, which {what} need",
            hint="edgescope.supervised(criterion)",
        )
    return loss_fn


def _form(thing: Any) -> str:
    return f"shape {tuple(thing.shape)}" if isinstance(thing, Tensor) else f"type {type(thing).__name__}"
