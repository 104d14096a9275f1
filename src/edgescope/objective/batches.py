"""The data of an objective: batches of any form, counted, checked, held, and cut into chunks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import InputError, NotDeterministicError
from edgescope.memory import available

Batch = Any
Count = Callable[[Batch], float]


@dataclass(frozen=True)
class Chunk:
    """A piece of the data and its share of the whole; the shares of all chunks add up to one."""

    share: float
    batch: Batch


class Batches:
    """Batches that can be gone through again and again, each with its number of samples.

    Data that fit in a quarter of the free memory are read once and held, so that every measurement sees the same
    samples; larger data are streamed. ``cut`` is the largest number of samples in a chunk (None: batches as they come),
    ``rows`` that of all data, ``largest`` that of the largest batch, ``heaviest`` the batch that takes most bytes;
    ``samples`` is the weight of all data.
    """

    def __init__(
        self, data: Any, *, count: Count | None, dtype: torch.dtype, device: torch.device, check: bool
    ) -> None:
        self._count = count or leading_size
        self._dtype, self._device = dtype, device
        self._source = self._as_iterable(data)
        self._held: list[Batch] | None = []
        self.cut: int | None = None
        self.samples, self.rows, self.largest, self.heaviest = 0.0, 0, 0, None
        with random_numbers_kept(self._source), torch.inference_mode(False):
            first = self._read(check)
            if self.samples <= 0:
                raise InputError("the data are empty", expected="at least one batch with one sample")
            if check and not isinstance(self._source, _OneBatch):
                self._compare_second_pass(first)

    def __iter__(self) -> Iterator[Batch]:
        if self._held is not None:
            yield from self._held
            return
        with random_numbers_kept(self._source):
            for raw in self._source:
                yield self._moved(raw)

    def chunks(self) -> Iterator[Chunk]:
        """All data, cut as ``cut`` says, each with its share of the samples."""
        for batch in self:
            for piece in self.pieces(batch, self.cut):
                yield Chunk(self.count(piece) / self.samples, piece)

    def pieces(self, batch: Batch, samples: int | None) -> list[Batch]:
        """A batch in pieces of at most this many samples."""
        size = leading_size(batch)
        if samples is None or size <= samples:
            return [batch]
        return [piece_of(batch, start, min(start + samples, size)) for start in range(0, size, samples)]

    def count(self, batch: Batch) -> float:
        """The weight of a batch: its number of samples, unless the caller counts otherwise."""
        return float(self._count(batch))

    def _read(self, check: bool) -> _Fingerprint:
        fingerprint, total, most = _Fingerprint(), 0, -1
        room = available(self._device) // 4
        for number, raw in enumerate(self._source):
            batch = self._moved(raw)
            if check:
                _check_finite(batch, number)
                fingerprint.add(batch)
            self.samples += self._checked_count(batch, number)
            self.rows += leading_size(batch)
            self.largest = max(self.largest, leading_size(batch))
            size = sum(t.nbytes for t in tensors_of(batch))
            if size > most:
                self.heaviest, most = batch, size
            total += size
            if self._held is not None:
                self._held.append(batch)
            if total > room:
                self._held = None
        return fingerprint

    def _as_iterable(self, data: Any) -> Iterable[Batch]:
        if isinstance(data, Tensor | Mapping) or (isinstance(data, tuple | list) and _is_batch(data)):
            return _OneBatch(data)
        if isinstance(data, Iterator):
            raise InputError(
                "the data are a one-shot iterator",
                expected="data that can be gone through again (a batch, a list of batches, a DataLoader)",
                hint="list(...) around it",
            )
        if not isinstance(data, Iterable):
            raise InputError(f"data of type {type(data).__name__}", expected="a batch, a DataLoader or any re-iterable")
        return data

    def _moved(self, batch: Batch) -> Batch:
        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            kind = self._dtype if leaf.is_floating_point() else leaf.dtype
            if leaf.is_inference():
                leaf = leaf.clone()  # an inference tensor can never enter a graph
            return leaf.detach().to(self._device, kind)

        if isinstance(batch, Mapping) and not isinstance(batch, dict):
            batch = dict(batch)  # such as the BatchEncoding of a tokenizer, which pytrees do not open
        return pytree.tree_map(move, batch)

    def _checked_count(self, batch: Batch, number: int) -> float:
        count = self.count(batch)
        if not count > 0 or count == float("inf"):
            raise InputError(f"batch {number} has {count:g} samples", expected="a positive number of samples")
        return count

    def _compare_second_pass(self, first: _Fingerprint) -> None:
        second = _Fingerprint()
        for raw in self._source:
            second.add(self._moved(raw))
        if not first.same_as(second):
            raise NotDeterministicError(
                "two passes over the data gave different samples (drawn or augmented at random, or a batch dropped)",
                hint="fixed data for the measurement, such as list(loader)",
            )


class _OneBatch:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        yield self.batch


class _Fingerprint:
    """Sums over the samples that do not depend on their order, to tell whether two passes saw the same data."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], np.ndarray] = {}

    def add(self, batch: Batch) -> None:
        for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
            if isinstance(leaf, Tensor) and not leaf.is_complex() and leaf.numel():
                values = leaf.double()
                row = torch.stack([values.sum(), (values * values).sum(), values.abs().sum()]).cpu().numpy()
                key = (pytree.keystr(path), leaf.ndim)
                self.sums[key] = self.sums.get(key, 0) + np.append(row, leaf.numel())

    def same_as(self, other: _Fingerprint) -> bool:
        if self.sums.keys() != other.sums.keys():
            return False
        for key, mine in self.sums.items():
            theirs = other.sums[key]
            slack = 1e-9 * np.array([mine[2], mine[1], mine[2], 0.0]) + 1e-300
            if np.any(np.abs(mine - theirs) > slack):
                return False
        return True


def leading_size(batch: Batch) -> int:
    """The number of samples in a batch: the size of the first dimension of its first tensor that has one."""
    for leaf in tensors_of(batch):
        if leaf.ndim > 0:
            return int(leaf.shape[0])
    raise InputError("a batch without any tensor that has a first dimension", expected="samples along dimension 0")


def piece_of(batch: Batch, start: int, stop: int) -> Batch:
    """Samples ``start`` to ``stop`` of a batch; leaves that do not run over the samples are passed on whole."""
    size = leading_size(batch)

    def cut(leaf: Any) -> Any:
        return leaf[start:stop] if isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size else leaf

    return pytree.tree_map(cut, batch)


def _is_batch(data: tuple | list) -> bool:
    """A sequence is one batch when its members are tensors; a list of tuples, lists or dicts is a list of batches."""
    return len(data) > 0 and any(isinstance(member, Tensor) for member in data)


def tensors_of(batch: Batch) -> list[Tensor]:
    """All tensors in a batch."""
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def _check_finite(batch: Batch, number: int) -> None:
    for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
            where = pytree.keystr(path) or "the tensor"
            raise InputError(
                f"the data contain NaN or infinity (batch {number}, {where})",
                expected="finite numbers",
                hint="dropping or mending those samples, or check=False if they are meant (a mask)",
            )


@contextmanager
def random_numbers_kept(source: Any = None) -> Iterator[None]:
    """Leave every global random generator, and those of a DataLoader, as they were before."""
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = [source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = (getattr(owner, "generator", None) for owner in owners)
    generators = [generator for generator in found if isinstance(generator, torch.Generator)]
    states = [g.get_state() for g in generators]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
