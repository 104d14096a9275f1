"""What has to be done to a user's module so that it can be measured, and undone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from edgescope.errors import InputError, NotDeterministicError
from edgescope.objective.batches import random_numbers_kept

Mode = Literal["eval", "train"]


class LossModule(nn.Module):
    """A model and its loss function as one module, so that parameters can be put in from outside by name."""

    def __init__(self, model: nn.Module, loss_fn: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._function = loss_fn

    def forward(self, batch: Any, function: Callable[[nn.Module, Any], Tensor] | None = None) -> Tensor:
        return (function or self._function)(self.model, batch)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and (distributed) data-parallel wrappers, which have no second derivative."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def refuse_dropout(model: nn.Module) -> None:
    """Training mode differentiates through batch statistics, but a random mask is no function of the parameters."""
    for name, part in model.named_modules():
        if isinstance(part, _DropoutNd) and part.p > 0:
            raise NotDeterministicError(
                f"dropout '{name}' (p={part.p:g}) is active in mode='train'",
                hint="mode='eval', or dropout with p=0 for the measurement",
            )
        rate = getattr(part, "dropout", 0.0)
        if isinstance(part, nn.MultiheadAttention | nn.RNNBase) and isinstance(rate, float) and rate > 0:
            raise NotDeterministicError(
                f"'{name}' has dropout {rate:g}, active in mode='train'",
                hint="mode='eval', or dropout=0 for the measurement",
            )


def uses_batch_statistics(model: nn.Module, mode: Mode) -> bool:
    """Whether a batch's loss depends on which samples stand together in the batch."""
    return any(
        isinstance(part, _BatchNorm) and (mode == "train" or part.running_mean is None)
        for part in model.modules()
    )


@contextmanager
def measuring(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Everything that a measurement needs of the surroundings, and none of it left behind.

    Inside: the mode set; attention in its math kernel and transformer layers off their fused fast path (neither has
    a second derivative otherwise); compiled parts run eagerly; gradients on whatever the caller's context; autocast
    off; random generators as before once done.
    """
    modes = [(part, part.training) for part in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    device = next((p.device.type for p in model.parameters()), "cpu")
    with ExitStack() as stack:
        stack.enter_context(random_numbers_kept())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        if device == "cuda" and any(isinstance(part, nn.RNNBase) for part in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        # The flags are set one by one, because ``train()`` may be overridden with side effects (merging adapters).
        for part, _ in modes:
            part.training = mode == "train"
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for part, training in modes:
                part.training = training


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


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that training changes, each once however often it is tied, by name."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise InputError(
            "the model has no trainable parameters",
            expected="at least one parameter with requires_grad=True",
        )
    for name, p in found.items():
        if not p.is_floating_point():
            raise InputError(f"parameter '{name}' has type {p.dtype}", expected="real floating-point parameters")
        if not bool(torch.isfinite(p).all()):
            raise InputError(
                f"parameter '{name}' contains NaN or infinity",
                hint="a checkpoint from before the run diverged",
            )
    if len({p.device for p in found.values()}) > 1:
        raise InputError("the parameters lie on several devices", expected="all of them on one")
    return found
