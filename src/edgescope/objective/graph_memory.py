"""How much memory a gradient's graph holds, counted on a small piece of the data before the whole is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def graph_bytes(build: Callable[[], object], constants: Sequence[Tensor]) -> int:
    """Bytes of all tensors that autograd saves while ``build()`` runs, each storage once, ``constants`` left out."""
    known = {t.untyped_storage().data_ptr() for t in constants}
    storages: dict[int, int] = {}
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
            saved.append(tensor)  # keeps the address from being given out again while we count
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        build()
    return sum(storages.values())
