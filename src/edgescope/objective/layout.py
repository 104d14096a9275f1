"""Flat parameter vectors, and where each parameter tensor lies in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Tensors = Sequence[Tensor]


class Slot(NamedTuple):
    """Where one parameter tensor lies in the flat vector."""

    name: str
    shape: torch.Size
    slice: slice


class Layout(list[Slot]):
    """The slots of all parameter tensors, in order, which take a flat vector apart and put it together."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        start = 0
        for name, tensor in tensors.items():
            self.append(Slot(name, tensor.shape, slice(start, start + tensor.numel())))
            start += tensor.numel()
        self.size = start
        self._sizes = [tensor.numel() for tensor in tensors.values()]

    def split(self, rows: Shaped[Tensor, "*k P"]) -> list[Tensor]:
        """One view a tensor, with the leading dimensions of ``rows`` kept."""
        leading, pieces = rows.shape[:-1], rows.split_with_sizes(self._sizes, dim=-1)
        return [piece.view(leading + slot.shape) for piece, slot in zip(pieces, self, strict=True)]

    def join(self, tensors: Tensors, leading: tuple[int, ...] = ()) -> Float[Tensor, "*k P"]:
        """The inverse of ``split`` for tensors with these leading dimensions."""
        return torch.cat([tensor.reshape(*leading, -1) for tensor in tensors], dim=-1)
