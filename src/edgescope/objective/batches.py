"""The data of an objective: batches with weights, checked to be the same at every pass."""

from __future__ import annotations

import copy
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import EdgescopeError, InputError, NotDeterministicError
from edgescope.generators import accelerator_states, generators_of, set_accelerator_states
from edgescope.memory import available
from edgescope.objective.fingerprint import Fingerprint, mark_of

Batch = Any
Count = Callable[[Batch], float]


@dataclass(frozen=True)
class Chunk:
    """A piece of the data and its share of the whole; the shares of all chunks add up to one."""

    share: float
    batch: Batch


class Batches:
    """Re-iterable batches, each with its weight.

    Data that fit in a quarter of the free memory are read once and held as copies, so that every measurement sees the
    same samples; larger data are streamed. ``cut`` is the largest number of samples in a chunk (None: batches as they
    come), ``rows`` the number of samples, ``number`` that of batches, ``largest`` the samples of the largest batch,
    ``heaviest`` the batch that takes most bytes, of those that weigh anything; ``samples`` is the weight of all data,
    the number of samples unless ``count`` says otherwise. ``repeats`` says whether every pass gives the same batches in
    the same order. ``uncut``: batches are only taken whole, as their tensors have different numbers of rows (graphs,
    sequences first) or the model cannot take a part of one.
    """

    def __init__(
        self, data: Any, *, count: Count | None, dtype: torch.dtype, device: torch.device, check: bool
    ) -> None:
        self.counted = count is not None
        self._count: Count = count or leading_size
        self._dtype, self._device = dtype, device
        self._source = as_iterable(data)
        self._held: list[Batch] | None = []
        self._weights: dict[tuple[int, int], float] = {}
        self.cut: int | None = None
        self.samples, self.rows, self.number, self.largest, self.heaviest = 0.0, 0, 0, 0, None
        self.repeats, self.uncut = True, False
        self._marks: dict[int, float] = {}  # of data that are not held, to see that they stay the same
        with random_numbers_kept(self._source), torch.inference_mode(False), torch.no_grad():
            first = self._read(check)
            if not self.rows:
                raise InputError("the data are empty", expected="at least one batch with one sample")
            self._refuse_weightless()
            if check and not isinstance(self._source, _UnchangedBatch):
                self._compare_second_pass(first)

    def __iter__(self) -> Iterator[Batch]:
        if self._held is not None:
            yield from self._held
            return
        with random_numbers_kept(self._source):
            for number, raw in enumerate(self._source):
                if self.repeats and self._marks and mark_of(as_tensors(raw)) != self._marks.get(number):
                    raise _changed()
                # A copy, since a loader may fill the same tensors again while the graph of a batch is kept.
                yield self._moved(raw, copy=not isinstance(self._source, _UnchangedBatch))

    def chunks(self) -> Iterator[Chunk]:
        """All data that weigh anything, cut as ``cut`` says, each piece with its share of the weight."""
        for number, batch in enumerate(self):
            for place, piece in enumerate(self.pieces(batch, self.cut)):
                weight = self._weight(number, place, piece)
                if weight:
                    yield Chunk(weight / self.samples, piece)

    def pieces(self, batch: Batch, samples: int | None) -> list[Batch]:
        """A batch in pieces of at most this many samples."""
        size = leading_size(batch)
        if samples is None or size <= samples or self.uncut:
            return [batch]
        return [piece_of(batch, start, min(start + samples, size)) for start in range(0, size, samples)]

    def count(self, batch: Batch) -> float:
        """The weight of a batch: its number of samples, unless the caller or the loss counts otherwise."""
        try:
            return float(self._count(batch))
        except EdgescopeError:
            raise
        except Exception as error:
            first = str(error).strip().splitlines() or ["no message"]
            raise InputError(
                f"count= failed on a batch ({type(error).__name__}: {first[0]})",
                expected="a function of a batch that returns its weight, a number",
            ) from error

    def some(self, samples: int) -> Batch:
        """At most so many samples of the heaviest batch, the first ones that weigh anything; all where it is uncut."""
        if self.uncut:
            return self.heaviest
        size = leading_size(self.heaviest)
        if not self.counted:
            return piece_of(self.heaviest, 0, min(size, samples))
        rows = (torch.tensor([place], device="cpu") for place in range(size))
        chosen = list(itertools.islice((row for row in rows if self.count(rows_of(self.heaviest, row))), samples))
        return rows_of(self.heaviest, torch.cat(chosen)) if chosen else self.heaviest

    def on(self, batch: Batch) -> Batches:
        """``batch``, made of samples of these data, cut and weighed as they are; InputError where it weighs nothing."""
        fresh = copy.copy(self)
        fresh._held, fresh._weights, fresh.heaviest = [batch], {}, batch
        fresh.samples, fresh.rows, fresh.number = self._checked_count(batch, 0), leading_size(batch), 1
        fresh.largest = fresh.rows
        fresh._refuse_weightless()
        return fresh

    def cut_to(self, samples: int) -> None:
        """Cut batches into pieces of at most this many samples from now on."""
        self.cut = samples
        self._weights.clear()

    def weigh(self, count: Count) -> None:
        """Weigh batches otherwise from now on; costs one pass over data that are not held.

        Raises :class:`InputError` where nothing weighs anything.
        """
        self._count, self.counted = count, True
        self._weights.clear()
        self.samples, most = 0.0, -1
        for number, batch in enumerate(self):
            weight, taken = self._checked_count(batch, number), sum(t.nbytes for t in tensors_of(batch))
            if weight and taken > most:
                self.heaviest, most = batch if self._held is not None else _copied(batch), taken
            self.samples += weight
        if not self.samples > 0:
            raise InputError("no batch has a valid target", expected="at least one")

    def _weight(self, number: int, place: int, piece: Batch) -> float:
        if self._held is None:
            return self.count(piece)
        known = self._weights.get((number, place))
        if known is None:
            known = self._weights[number, place] = self.count(piece)
        return known

    def _read(self, check: bool) -> Fingerprint:
        fingerprint, total, most = Fingerprint(), 0, -1
        room = available(self._device) // 4
        alone = isinstance(self._source, _UnchangedBatch)
        if alone and sum(t.nbytes for t in tensors_of(next(iter(self._source)))) > room:
            self._held = None  # before a copy is made
        for number, raw in enumerate(self._source):
            batch = self._moved(raw, copy=self._held is not None)
            size = leading_size(batch)
            self.uncut = self.uncut or _rows_differ(batch)
            if check:
                _check_finite(batch, number)
                if not alone:
                    fingerprint.add(as_tensors(raw), size)
            self.samples += self._checked_count(batch, number)
            self.rows, self.number, self.largest = self.rows + size, number + 1, max(self.largest, size)
            taken = sum(t.nbytes for t in tensors_of(batch))
            if taken > most and self.count(batch):
                # A copy, since a loader may fill the same tensors again.
                most = taken
                self.heaviest = batch if alone or self._held is not None else self._moved(raw, copy=True)
            total += taken
            if self._held is not None:
                self._held.append(batch)
            if total > room:
                self._held = None
            if check:
                self._marks[number] = mark_of(as_tensors(raw))
        if self._held is not None:
            self._marks.clear()
        return fingerprint

    def _moved(self, batch: Batch, copy: bool = False) -> Batch:
        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            kind = self._dtype if leaf.is_floating_point() else leaf.dtype
            if leaf.is_inference():
                leaf = leaf.clone()  # an inference tensor can never enter a graph
            return leaf.detach().to(self._device, kind, copy=copy)

        return pytree.tree_map(move, as_tensors(batch))

    def _checked_count(self, batch: Batch, number: int) -> float:
        if not self.counted and not leading_size(batch):
            raise InputError(f"batch {number} has 0 samples", expected="a positive number of samples")
        count = self.count(batch)
        if not 0 <= count < math.inf:
            raise InputError(f"batch {number} has a weight of {count:g}", expected="a finite one, not negative")
        return count

    def _refuse_weightless(self) -> None:
        if not self.samples > 0:
            raise InputError("all batches have a weight of 0", expected="a positive weight", hint="another count=")

    def _compare_second_pass(self, first: Fingerprint) -> None:
        second = Fingerprint()
        for raw in self._source:
            tensors = as_tensors(raw)
            second.add(tensors, leading_size(tensors))
        if not first.same_samples(second):
            raise NotDeterministicError(
                "two passes over the data gave different samples (drawn or augmented at random, padded otherwise, or a"
                " batch dropped)",
                hint="fixed data for the measurement, such as list(loader)",
            )
        self.repeats = self._held is not None or first.same_order(second)


class _UnchangedBatch:
    """A batch of the caller, which is refused after it was changed in place."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._versions = self._now()

    def __iter__(self) -> Iterator[Batch]:
        if self._now() != self._versions:
            raise _changed()
        yield self.batch

    def _now(self) -> list[int]:
        return [leaf._version for leaf in tensors_of(self.batch) if not leaf.is_inference()]


def _changed() -> NotDeterministicError:
    return NotDeterministicError(
        "the data have changed since the objective was made, and are too large for it to hold a copy",
        hint="separate data for the measurement, or a new Objective",
    )


def leading_size(batch: Batch) -> int:
    """The number of samples in a batch: the size of the first dimension of its first tensor that has one."""
    for leaf in tensors_of(batch):
        if leaf.ndim > 0:
            return int(leaf.shape[0])
    raise InputError("a batch without any tensor that has a first dimension", expected="samples along dimension 0")


def _rows_differ(batch: Batch) -> bool:
    """Whether tensors of a batch have different numbers of rows; one row stands for all samples."""
    size = leading_size(batch)
    return any(leaf.ndim > 0 and leaf.shape[0] not in (1, size) for leaf in tensors_of(batch))


def piece_of(batch: Batch, start: int, stop: int) -> Batch:
    """Samples ``start`` to ``stop`` of a batch; leaves that do not run over the samples are passed on whole."""
    size = leading_size(batch)

    def cut(leaf: Any) -> Any:
        return leaf[start:stop] if isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size else leaf

    return pytree.tree_map(cut, batch)


def rows_of(batch: Batch, places: Int[Tensor, " b"]) -> Batch:
    """The samples of a batch at these places; leaves that do not run over the samples are passed on whole."""
    size = leading_size(batch)
    there = {places.device: places}  # copied once to each device, not once for each leaf

    def pick(leaf: Any) -> Any:
        if not (isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size):
            return leaf
        if leaf.device not in there:
            there[leaf.device] = places.to(leaf.device)
        return leaf[there[leaf.device]]

    return pytree.tree_map(pick, batch)


def tensors_of(batch: Batch) -> list[Tensor]:
    """All tensors in a batch."""
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def as_iterable(data: Any) -> Iterable[Batch]:
    """Data as something that gives its batches at every pass: one batch is a pass of its own; InputError for others."""
    if isinstance(data, Tensor | np.ndarray | Mapping) or (isinstance(data, tuple | list) and _is_batch(data)):
        return _UnchangedBatch(as_tensors(data))
    if isinstance(data, Iterator):
        raise InputError(
            "the data are a one-shot iterator",
            expected="re-iterable data (a batch, a list of batches, a DataLoader)",
            hint="list(data)",
        )
    other = isinstance(data, type | str | bytes | torch.utils.data.Dataset)
    if other or not isinstance(data, Iterable):
        kind = f"the class {data.__name__}" if isinstance(data, type) else f"data of type {type(data).__name__}"
        raise InputError(
            kind,
            expected="a batch, a DataLoader or any re-iterable",
            hint=_instead_of(data),
        )
    return data


def _instead_of(data: Any) -> str | None:
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        return "(data.inputs, data.targets)"
    if isinstance(data, torch.utils.data.Dataset):
        return "DataLoader(data, batch_size=256), or batch_size=None where it gives batches"
    return "an instance of it" if isinstance(data, type) else None


def as_tensors(batch: Batch) -> Batch:
    """A batch with NumPy arrays as tensors (which share their memory), and mappings as dicts."""
    if isinstance(batch, Mapping) and not isinstance(batch, dict):
        batch = dict(batch)  # such as the BatchEncoding of a tokenizer, which pytrees do not open
    leaves = pytree.tree_leaves(batch)
    other = [leaf.layout for leaf in leaves if isinstance(leaf, Tensor) and leaf.layout != torch.strided]
    if other:
        raise InputError(f"data with tensors of layout {other[0]}", expected="dense tensors", hint="tensor.to_dense()")
    if not any(isinstance(leaf, np.ndarray) for leaf in leaves):
        return batch

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        try:
            return torch.as_tensor(leaf if leaf.flags.writeable else leaf.copy())
        except TypeError as error:
            raise InputError(f"data with a NumPy array of type {leaf.dtype}", expected="numbers") from error

    return pytree.tree_map(convert, batch)


def _copied(batch: Batch) -> Batch:
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)


def _is_batch(data: tuple[Any, ...] | list[Any]) -> bool:
    """A sequence is one batch when its members are tensors; a list of tuples, lists or dicts is a list of batches."""
    return len(data) > 0 and any(isinstance(member, Tensor | np.ndarray) for member in data)


def _check_finite(batch: Batch, number: int) -> None:
    for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
            where = pytree.keystr(path) or "the tensor"
            raise InputError(
                f"the data contain NaN or infinity (batch {number}, {where})",
                expected="finite numbers",
                hint="removing or correcting those samples, or check=False if they are meant (a mask)",
            )


@contextmanager
def random_numbers_kept(source: Any = None) -> Iterator[None]:
    """Leave every global random generator, and those of a DataLoader, as they were before."""
    generators = generators_of(source)
    states = [g.get_state() for g in generators]
    legacy = sys.modules.get("numpy.random")  # NumPy loads it on first use; before, it has no state that can be known
    python, numpy = random.getstate(), legacy and legacy.get_state()
    accelerators = accelerator_states(in_use=True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        set_accelerator_states(accelerators)
        random.setstate(python)
        if legacy is not None:
            legacy.set_state(numpy)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
