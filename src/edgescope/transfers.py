"""Copies from devices to the host, with one wait for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

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
