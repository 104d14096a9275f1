"""What has to be done to a user's module so that it can be measured, and undone afterwards."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from edgescope.errors import InputError, NotDeterministicError
from edgescope.objective.batches import random_numbers_kept
from edgescope.objective.formulas import Formulas, needs_formulas

Mode = Literal["eval", "train"]
Owned = tuple[str, dict[str, Any], str]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and (distributed) data-parallel wrappers, which have no second derivative."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def owned_tensors(model: nn.Module) -> tuple[list[Owned], list[Owned]]:
    """Trainable tensors, each once however often it is tied, and constants (frozen parameters and buffers).

    Each as its name, the dictionary that its module keeps it in, and its key there.
    """
    trainable: list[Owned] = []
    constant: list[Owned] = []
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        prefix, _, key = name.rpartition(".")
        owner = model.get_submodule(prefix)
        if key in owner._parameters:
            (trainable if tensor.requires_grad else constant).append((name, owner._parameters, key))
        else:
            constant.append((name, owner._buffers, key))
    return trainable, constant


def own_precision(tensors: Iterable[Tensor]) -> torch.dtype:
    """The widest type among the tensors, and at least float32: curvature in half precision is noise."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def refuse_parameters(model: nn.Module) -> None:
    """Parameters that cannot be measured: none, of an odd type, not finite, sharded, not yet initialised."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise InputError(
            "the model has no trainable parameters",
            expected="at least one parameter with requires_grad=True",
        )
    for name, p in found.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(f"parameter '{name}' is not initialised yet", hint="one forward pass of the model first")
        if not p.is_floating_point():
            raise InputError(f"parameter '{name}' has type {p.dtype}", expected="real floating-point parameters")
        if not bool(torch.isfinite(p).all()):
            raise InputError(
                f"parameter '{name}' contains NaN or infinity",
                expected="finite parameters",
                hint="a checkpoint from before the run diverged",
            )
    if len({p.device for p in found.values()}) > 1:
        raise InputError("the parameters lie on several devices", expected="all of them on one")


def refuse_dropout(model: nn.Module) -> None:
    """Training mode differentiates through batch statistics, but a random mask is no function of the parameters."""
    for name, part in model.named_modules():
        single = isinstance(part, _DropoutNd)
        rate = getattr(part, "p" if single else "dropout", 0.0)
        if isinstance(part, _DropoutNd | nn.MultiheadAttention | nn.RNNBase) and rate > 0:
            raise NotDeterministicError(
                f"dropout in '{name or type(part).__name__}' (p={rate:g}) is active in mode='train'",
                hint="mode='eval', or dropout with p=0 for the measurement",
            )


def uses_batch_statistics(model: nn.Module, mode: Mode) -> bool:
    """Whether a batch's loss depends on which samples stand together in the batch."""
    return any(
        isinstance(part, _BatchNorm) and (mode == "train" or part.running_mean is None) for part in model.modules()
    )


@contextmanager
def measuring(model: nn.Module, mode: Mode, device: torch.device) -> Iterator[None]:
    """Everything that a measurement needs of the surroundings, and none of it left behind.

    Inside: the mode set; attention in its math kernel and transformer layers off their fused fast path (neither has
    a second derivative otherwise); weight normalisation by its formula; compiled parts run eagerly; gradients on,
    whatever the caller's context; autocast off. Afterwards every module has its former attributes, whatever its
    forward pass wrote into them, and random generators are as before.
    """
    parts = list(model.modules())
    kept = [(dict(part.__dict__), dict(part._buffers)) for part in parts]
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(random_numbers_kept())
        stack.enter_context(plain_arithmetic(device))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # else nothing can have been compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(needs_formulas(part) for part in parts):
            stack.enter_context(Formulas())
        if device.type == "cuda" and any(isinstance(part, nn.RNNBase) for part in parts):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        # The flags are set one by one, because ``train()`` may be overridden with side effects (merging adapters).
        for part in parts:
            part.training = mode == "train"
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for part, (attributes, buffers) in zip(parts, kept, strict=True):
                _put_back(part.__dict__, attributes)
                _put_back(part._buffers, buffers)


def plain_arithmetic(device: torch.device) -> AbstractContextManager[object]:
    """Inference mode and autocast off, also for backward passes, which autocast would round as well."""
    on = [kind for kind in {"cpu", device.type} if torch.is_autocast_enabled(kind)]
    if not on and not torch.is_inference_mode_enabled():
        return nullcontext()  # a product of a small model takes no longer than entering these
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    for kind in on:
        stack.enter_context(torch.autocast(kind, enabled=False))
    return stack


@contextmanager
def own_deprecations_quiet() -> Iterator[None]:
    """Parts of torch that load late use parts of torch that it has deprecated, of which no caller need be told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


@contextmanager
def thread_count(number: int | None) -> Iterator[None]:
    """Run with this many threads (None: the user's setting) and give the user's setting back."""
    before = torch.get_num_threads()
    if number is not None and number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _put_back(entries: dict[str, Any], before: dict[str, Any]) -> None:
    if len(entries) != len(before) or any(entries.get(key) is not value for key, value in before.items()):
        entries.clear()
        entries.update(before)
