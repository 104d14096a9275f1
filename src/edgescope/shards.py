"""Tensors of which each process holds a part: whole copies of them, and writing into them."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a ``torch.distributed.tensor.DTensor``, of which each process holds a shard or a copy."""
    module = sys.modules.get("torch.distributed.tensor")  # where it was never imported there is none
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, without its graph: itself, or what the processes that hold its shards gather from each other.

    These have to call this together.
    """
    if not is_sharded(tensor):
        return tensor.detach()
    sharded: Any = tensor.detach()
    found: Tensor = sharded.full_tensor()
    return found


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor
    held: Tensor = sharded._local_tensor
    return held


def filled_like(tensor: Tensor, value: float) -> Tensor:
    """A whole tensor of the same shape, precision and device, with one value."""
    return torch.full(tensor.shape, value, dtype=tensor.dtype, device=tensor.device)


def write(tensor: Tensor, values: Tensor) -> None:
    """Write whole ``values``, the same on each process, into a tensor or into the shard of it that is held here."""
    if is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = tensor
        values = values.to(tensor.device, tensor.dtype)
        # No rank is the source: each takes its part of its own copy, so that nothing is exchanged.
        values = distribute_tensor(values, sharded.device_mesh, sharded.placements, src_data_rank=None)
    tensor.copy_(values)
