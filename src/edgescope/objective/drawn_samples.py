"""Samples that are drawn at random from all batches of the data, as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import InputError
from edgescope.objective.batches import Batch, Batches, leading_size


def drawn(batches: Batches, size: int, count: int | None, seed: int) -> Iterator[Batch]:
    """``count`` batches (None: without end) of ``size`` different samples each, from ``seed`` alone.

    Cost: one pass over the data for each.
    """
    generator = torch.Generator().manual_seed(seed)
    made = 0
    while count is None or made < count:
        chosen = torch.randperm(batches.rows, generator=generator, device="cpu")[:size].sort().values
        yield joined(batches, chosen)
        made += 1


def joined(batches: Iterable[Batch], chosen: Int[Tensor, " b"]) -> Batch:
    """The chosen samples, numbered through all batches, as one batch; InputError where their shapes do not fit."""
    met: list[Batch] = []
    places: list[tuple[int, Int[Tensor, " j"]]] = []
    start = 0
    for batch in batches:
        size = leading_size(batch)
        inside = chosen[(chosen >= start) & (chosen < start + size)] - start
        if len(inside):
            met.append(batch)
            places.append((size, inside))
        start += size

    def join(*leaves: Any) -> Any:
        runs = [
            isinstance(t, Tensor) and t.ndim > 0 and t.shape[0] == n for t, (n, _) in zip(leaves, places, strict=True)
        ]
        rows = (t[inside.to(t.device)] for t, (_, inside) in zip(leaves, places, strict=True))
        return torch.cat(list(rows)) if all(runs) else leaves[0]

    try:
        return pytree.tree_map(join, *met)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "samples of different batches do not fit into one mini-batch", expected="batches of equal sample shapes"
        ) from error
