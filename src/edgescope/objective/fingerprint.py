"""Whether two passes over the data gave the same samples, by sums that depend on every entry but not on the order."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

_BLOCK = 2**22  # numbers that are converted to float64 at once
_MARKS = 4096  # entries of a tensor that are looked at again at every pass
_SLACK = 1e-9  # of the sums: float64 sums in another order differ by less


class Fingerprint:
    """Sums over samples of random projections of each sample, one projection for each tensor of a batch.

    Entries within a sample have weights of their own, so a flipped, shifted or permuted sample differs; products of
    the projections of inputs and targets tell which belong together. The order of samples, and how they are grouped
    into batches, do not matter to ``same_samples``; ``same_order`` compares batch by batch.
    """

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._batches: list[tuple[float, float]] = []

    def add(self, batch: Any, samples: int) -> None:
        """Take in a batch of so many samples, as the data gave it."""
        first: Float[np.ndarray, " n"] | None = None
        total = scale = 0.0
        for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
            if not isinstance(leaf, Tensor) or not leaf.numel():
                continue
            over_samples = leaf.ndim > 0 and leaf.shape[0] == samples
            found = _projections(leaf.detach(), samples if over_samples else 1)
            columns = [found, found * found, np.abs(found)]
            if over_samples and first is not None:
                columns += [first * found, np.abs(first * found)]
            elif over_samples:
                first = found
            row = np.array([column.sum() for column in columns] + [leaf.numel()])
            key = f"{pytree.keystr(path)} {leaf.ndim} {len(columns)}"
            self._sums[key] = self._sums.get(key, 0) + row
            total, scale = total + float(row[0]), scale + float(row[2])
        self._batches.append((total, scale))

    def same_samples(self, other: Fingerprint) -> bool:
        """Whether both passes gave the same samples, in any order."""
        if self._sums.keys() != other._sums.keys():
            return False
        return all(_close(mine, other._sums[key]) for key, mine in self._sums.items())

    def same_order(self, other: Fingerprint) -> bool:
        """Whether both passes gave the same batches in the same order."""
        pairs = zip(self._batches, other._batches, strict=False)
        same = all(abs(a - b) <= _SLACK * scale + 1e-300 for (a, scale), (b, _) in pairs)
        return same and len(self._batches) == len(other._batches)


def mark_of(batch: Any) -> float:
    """One number from a few thousand entries of a batch: the same bits unless one of these has changed."""
    total = 0.0
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.numel():
            leaf = torch.view_as_real(leaf.detach()) if leaf.is_complex() else leaf.detach()
            places = (
                torch.linspace(0, leaf.numel() - 1, min(leaf.numel(), _MARKS), dtype=torch.float64, device="cpu")
                .round()
                .long()
            )
            found = torch.take(leaf, places.to(leaf.device)).cpu().double()
            total += float(found.nan_to_num() @ _weights(len(places)))
    return total


def _close(mine: np.ndarray, theirs: np.ndarray) -> bool:
    # A sum of terms of both signs is compared with the sum of their sizes.
    sizes = np.array([mine[2], mine[1], mine[2], *([mine[4], mine[4]] if len(mine) == 6 else []), 0.0])
    return bool(np.all(np.abs(mine - theirs) <= _SLACK * sizes + 1e-300))


def _projections(leaf: Tensor, samples: int) -> Float[np.ndarray, " n"]:
    """The product of each sample with one fixed random vector."""
    rows = (torch.view_as_real(leaf) if leaf.is_complex() else leaf).reshape(samples, -1)
    weights = _weights(rows.shape[1])
    blocks = rows.split(max(1, _BLOCK // rows.shape[1]))
    return np.concatenate([(block.cpu().double() @ weights).numpy() for block in blocks])


@functools.lru_cache(maxsize=8)
def _weights(size: int) -> Float[Tensor, " size"]:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0), device="cpu")
