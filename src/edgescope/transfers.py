"""Copies between devices and the host: one wait for all that comes from a device, and none for what goes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_LOCKS: Final = ("cuda", "xpu")
"""The types of devices that memory of the host can be page-locked for."""

_PINNED: Final = 2**26
"""Bytes up to which copies do not wait for one another: torch keeps the page-locked memory they go to."""


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the CPU, detached; those that are there already are not copied."""
    away = [tensor for tensor in tensors if tensor.device.type != "cpu"]
    together = sum(tensor.numel() * tensor.itemsize for tensor in away) <= _PINNED
    found = [tensor.detach().to("cpu", non_blocking=together) for tensor in tensors]
    for device in {tensor.device for tensor in away} if together else ():
        torch.accelerator.synchronize(device)
    return found


def read(*tensors: Tensor) -> list[Tensor]:
    """Small tensors of one device as float64 on the CPU, by one copy; those that are there already are not copied."""
    if tensors[0].is_cpu:
        return [tensor.double() for tensor in tensors]
    packed = torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors]).cpu()
    pieces = packed.split([tensor.numel() for tensor in tensors])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]


def send(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of the CPU in the precision of ``like`` and on its device, without waiting for the device.

    Copies wait unless they come from page-locked memory; torch reuses that only once the copy is done.
    """
    if like.is_cpu:
        return tensor.to(like.dtype)
    ready = tensor.to(like.dtype)
    if like.device.type in _LOCKS and ready.numel() * ready.itemsize <= _PINNED:
        ready = ready.pin_memory()
    return ready.to(like.device, non_blocking=True)


def equal(pairs: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Whether the tensors of every pair, all on one device, are equal, as ``torch.equal`` tells it, with one wait."""
    if all(one.is_cpu for one, _ in pairs):
        return all(torch.equal(one, other) for one, other in pairs)
    if any(one.shape != other.shape for one, other in pairs):
        return False
    return bool(torch.stack([(one == other).all() for one, other in pairs]).all())
