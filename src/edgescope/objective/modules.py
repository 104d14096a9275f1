"""Preparing a user's module for measurement, and restoring it afterwards."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, cast

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgescope.arithmetic import plain_arithmetic
from edgescope.errors import InputError
from edgescope.objective.batches import random_numbers_kept
from edgescope.objective.formulas import Formulas, needs_formulas
from edgescope.objective.modes import Flags
from edgescope.objective.parallel import hooks_off
from edgescope.objective.replacement import Replacement
from edgescope.shards import whole

FABRIC: Final = ("lightning", "lightning_fabric")
"""Packages whose wrapper of a model converts its inputs and outputs, and has the model as ``_original_module``."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``, data-parallel wrappers and those of Fabric, without second derivatives."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        elif type(model).__module__.split(".")[0] in FABRIC and hasattr(model, "_original_module"):
            model = cast(nn.Module, model._original_module)
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def own_precision(tensors: Iterable[Tensor]) -> torch.dtype:
    """The widest type among the tensors, and at least float32: curvature in half precision is noise."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def refuse_parameters(model: nn.Module) -> None:
    """Parameters that cannot be measured: none, of an odd type, not finite, sharded, not yet initialised."""
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            if isinstance(tensor, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
                raise InputError(
                    f"{kind} '{name}' is not initialised yet (a lazy module)",
                    hint="one forward pass of the model first",
                )
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise InputError(
            "the model has no trainable parameters",
            expected="at least one parameter with requires_grad=True",
        )
    for name, p in found.items():
        if not p.is_floating_point():
            raise InputError(f"parameter '{name}' has type {p.dtype}", expected="real floating-point parameters")
        if not bool(torch.isfinite(whole(p)).all()):
            raise InputError(
                f"parameter '{name}' contains NaN or infinity",
                expected="finite parameters",
                hint="a checkpoint from before the run diverged",
            )
    if len({p.device for p in found.values()}) > 1:
        raise InputError("the parameters are on several devices", expected="one device for all of them")
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.max_norm is not None:
            raise InputError(
                f"embedding '{name or type(part).__name__}' has max_norm={part.max_norm:g}, which rewrites its weights"
                " at every forward pass",
                expected="weights that only the optimizer changes",
                hint="max_norm=None, and a penalty on the norm in the loss",
            )


@contextmanager
def measuring(model: nn.Module, flags: Flags, device: torch.device) -> Iterator[None]:
    """Everything that a measurement needs of the surroundings, and none of it left behind.

    Inside: the training flags set; attention in its math kernel and transformer layers off their fused fast path
    (neither has a second derivative otherwise); weight normalisation by its formula; gradients of embeddings dense;
    activations kept where the model recomputes them; parameters put in also where FSDP2 shards a module's own; compiled
    parts run eagerly; gradients on, whatever the caller's
    context; anomaly detection off, TensorFloat-32 too, and autocast, also where the model switches it on.
    Afterwards every module has its former attributes, whatever its forward pass wrote into them, and random generators
    are as before.
    """
    parts = list(model.modules())
    kept = [(dict(part.__dict__), dict(part._buffers)) for part in parts]
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(random_numbers_kept())
        stack.enter_context(plain_arithmetic())
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(activations_kept())
        stack.enter_context(autocast_off_inside())
        if "torch._dynamo" in sys.modules:  # else nothing can have been compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(needs_formulas(part) for part in parts):
            stack.enter_context(Formulas())
        if device.type == "cuda" and any(isinstance(part, nn.RNNBase) for part in parts):
            stack.enter_context(cudnn_off())
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            flags.set(parts)
            hooks_off(parts)
            for part in parts:
                if isinstance(part, nn.Embedding | nn.EmbeddingBag):
                    part.sparse = False
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for part, (attributes, buffers) in zip(parts, kept, strict=True):
                _put_back(part.__dict__, attributes)
                _put_back(part._buffers, buffers)


@contextmanager
def cudnn_off() -> Iterator[None]:
    """Recurrent layers by torch's own kernels: those of cuDNN have no second derivative.

    Not by ``torch.backends.cudnn.flags``, which raises where the caller has set precisions by operator.
    """
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _once(*_: Any, **__: Any) -> Iterator[None]:
    yield


activations_kept = Replacement(torch.utils.checkpoint, _checkpoint_without_reentrant_generator=_once)
"""Activation checkpointing off: what it recomputes in a backward pass, it computes from the model's own parameters.

By then those that were put in from outside are gone, so that a gradient anywhere else would be wrong without a word.
Checkpointing of the reentrant kind is refused.
"""

autocast_off_inside = Replacement(torch.autocast, __enter__=lambda self: self, __exit__=lambda self, *error: None)
"""Autocast that the model switches on by itself, or a framework around its forward pass, does nothing."""


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
