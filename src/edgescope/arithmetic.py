"""Arithmetic in the precision of the tensors themselves, whatever context the caller is in (autocast and others)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES: Final = ("cpu", "cuda", "xpu", "mps")
"""The types of devices whose autocast rounds."""

_CUDNN: Final[Any] = torch.backends.cudnn
_MKLDNN: Final[Any] = torch.backends.mkldnn
_ANYWHERE: Final[tuple[Any, ...]] = (torch.backends.cuda.matmul, _MKLDNN.matmul)
_ON_GPU: Final[tuple[Any, ...]] = (_CUDNN.conv, _CUDNN.rnn)
"""What has a precision of its own for float32; torch's default rounds those on a GPU."""

_ROUNDED: Final = ("tf32", "bf16")


def plain_arithmetic() -> AbstractContextManager[object]:
    """A context without inference mode, autocast, anomaly detection and lower precisions for float32, also for
    backward passes.

    Autocast would round the products of a backward pass, too.
    """
    on = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
    switches = (*_ANYWHERE, *_ON_GPU) if torch.cuda.is_initialized() else _ANYWHERE
    rounded = any(switch.fp32_precision in _ROUNDED for switch in switches)
    if not on and not rounded and not torch.is_inference_mode_enabled() and not torch.is_anomaly_enabled():
        return nullcontext()  # entering the contexts below takes as long as a product of a small model
    stack = ExitStack()
    if rounded:
        stack.enter_context(full_precision())
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.autograd.set_detect_anomaly(False))
    for device in on:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 computed as float32: no TensorFloat-32 on a GPU, no bfloat16 on a CPU, whatever torch is told to use.

    cuDNN rounds the inputs of convolutions to TensorFloat-32 by default, to 10 bits: that is enough to train with, but
    a second derivative was then found 2% off. The older switches of torch are set beside the newer ones, as it refuses
    to read the older where the two contradict each other.
    """
    switches = (*_ANYWHERE, *_ON_GPU)
    before = [switch.fp32_precision for switch in switches]
    older: list[tuple[Callable[[Any], None], Any]] = []
    known: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = [
        (lambda: _CUDNN.allow_tf32, _set_cudnn, False),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ]
    for read, write, full in known:
        try:
            value = read()
        except RuntimeError:  # only the newer switches were used
            continue
        if value != full:
            write(full)
            older.append((write, value))
    for switch in switches:
        if switch.fp32_precision in _ROUNDED:
            switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for write, value in older:
            write(value)
        for switch, precision in zip(switches, before, strict=True):
            if switch.fp32_precision != precision:
                switch.fp32_precision = precision


def _set_cudnn(allowed: bool) -> None:
    _CUDNN.allow_tf32 = allowed


def in_plain_arithmetic(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: the function runs in :func:`plain_arithmetic`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with plain_arithmetic():
            return function(*args, **kwargs)

    return call
