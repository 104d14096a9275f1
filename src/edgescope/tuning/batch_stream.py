"""The batches of a short training run, in an order that a seed fixes, from the data of training."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import InputError
from edgescope.generators import generators_of
from edgescope.objective.batches import Batch, as_iterable, as_tensors, leading_size, rows_of


class BatchStream:
    """Batches without end, on a device and in a precision (None: their own).

    They are those of a loader or list, pass after pass, or parts of one batch.

    ``size`` cuts data that are one batch into mini-batches of so many samples, drawn anew for each pass; without it
    that batch is taken whole. A list of batches is shuffled; a loader goes in its own order, with its random generators
    set by the seed. Two streams of one seed give the same batches if the caller draws the same numbers between them.
    Raises :class:`InputError` for data without batches, that can be read only once, or a size that does not fit.
    """

    def __init__(self, data: Any, size: int | None, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self._source: Iterable[Batch] = as_iterable(data)
        self._data, self._device, self._dtype, self._size = data, device, dtype, size
        self._one = self._source is not data  # one batch, which as_iterable has wrapped
        if size is None:
            return
        if not self._one:
            raise InputError(
                f"batch={size} with data that come in batches already",
                expected="data that are one batch, to be cut",
                hint="batches of that size in the data, without batch=",
            )
        rows = leading_size(next(iter(self._source)))
        if size > rows:
            raise InputError(f"batch={size}", expected=f"at most {rows}, the number of samples")

    def batches(self, seed: int) -> Iterator[Batch]:
        """The batches of one training run, without end. Sets the global random generators, which the caller keeps."""
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (what loaders draw from)
        for generator in generators_of(self._data):
            generator.manual_seed(seed)
        return self._endless(torch.Generator().manual_seed(seed))

    def _endless(self, order: torch.Generator) -> Iterator[Batch]:
        while True:
            empty = True
            for batch in self._one_pass(order):
                empty = False
                yield self._moved(batch)
            if empty:
                raise InputError("the data have no batches", expected="at least one at every pass over them")

    def _one_pass(self, order: torch.Generator) -> Iterator[Batch]:
        if isinstance(self._source, list):
            places = torch.randperm(len(self._source), generator=order, device="cpu").tolist()
            yield from (self._source[place] for place in places)
        elif self._one and self._size is not None:
            (whole,) = self._source
            rows = torch.randperm(leading_size(whole), generator=order, device="cpu")
            for start in range(0, len(rows) - self._size + 1, self._size):
                yield rows_of(whole, rows[start : start + self._size])
        else:
            yield from self._source

    def _moved(self, batch: Batch) -> Batch:
        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.to(self._device, self._dtype if leaf.is_floating_point() else leaf.dtype)

        return pytree.tree_map(move, as_tensors(batch))
