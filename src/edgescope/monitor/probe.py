"""A fixed set of samples for measurements, drawn once from the data set of a DataLoader."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from edgescope.errors import InputError
from edgescope.objective.batches import random_numbers_kept, tensors_of
from edgescope.objective.processes import ProcessGroup

WHOLE = (SequentialSampler, RandomSampler, DistributedSampler)
"""Samplers that go through all of their data set."""

WHOLE_BY_NAME = ("SeedableRandomSampler",)
"""Such samplers of Accelerate, which need not be installed."""


@dataclass(frozen=True)
class Probe:
    """Fixed ``batches``, the number of ``samples`` in them, and in words where they are from.

    ``batch_size`` is that of the loader; None where it has none of its own.
    """

    batches: list[Any]
    samples: int
    batch_size: int | None
    description: str

    def samples_of_a_step(self, group: ProcessGroup | None, accumulate: int = 1) -> int | None:
        """How many samples an optimizer step takes, where these are fewer than are measured; None where not known."""
        processes = 1 if group is None else group.size()
        taken = (self.batch_size or self.samples) * accumulate * processes
        return taken if taken < self.samples * processes else None


def loader_of(data: Any) -> Any:
    """The DataLoader inside the wrapper of Fabric; anything else as it is."""
    inner = getattr(data, "_dataloader", None)
    fabric = type(data).__module__.split(".")[0] in ("lightning", "lightning_fabric")
    return inner if fabric and isinstance(inner, DataLoader) else data


def draw_probe(loader: DataLoader[Any], samples: int, *, seed: int = 0, group: ProcessGroup | None = None) -> Probe:
    """``samples`` samples of the loader's data set (all where it has fewer), as batches near the loader's size.

    Samples are fetched in this process and collated as the loader does it, without iterating the loader: its workers,
    its sampler and all random generators are left as they are. They are those that its sampler goes through, drawn
    without replacement (of a weighted sampler: with its weights) from ``seed``, which also fixes random augmentation.
    Of a ``group`` of processes each draws a share of its own. An iterable data set gives its first samples. Raises
    :class:`InputError` for data that can be read only once, or that have no length. Cost: fetching these samples, and
    one of them again.
    """
    with random_numbers_kept(loader):
        torch.random.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        if isinstance(loader.dataset, IterableDataset):
            return _first_samples(loader, samples)
        return _drawn(loader, samples, group)


def _drawn(loader: DataLoader[Any], samples: int, group: ProcessGroup | None) -> Probe:
    batch_size, found, weights = _goes_through(loader)
    kept = len(found) if weights is None else int((weights > 0).sum())
    wanted = min(samples, kept)
    if weights is not None:
        places = [found[i] for i in torch.multinomial(weights, wanted).tolist()]
    elif wanted < kept:
        places = [found[i] for i in torch.randperm(len(found), device="cpu")[:wanted].tolist()]
    else:
        places = list(found)
    share = ""
    if group is not None and len(places) >= group.size():
        places, share = places[group.rank() :: group.size()], f", shared by {group.size()} processes"
    per_batch = batch_size or (1 if loader.batch_sampler is None else len(places))
    batches = [_collated(loader, piece) for piece in _pieces(places, per_batch)]
    what = f"{wanted:,} of the {kept:,} samples" if wanted < kept else f"all {kept:,} samples"
    count = "1 batch" if len(batches) == 1 else f"{len(batches)} batches"
    augmented = (
        "; augmentation is random, and they are measured as it was drawn once" if _random(loader, places) else ""
    )
    return Probe(
        batches,
        len(places),
        batch_size,
        f"{what} that the DataLoader goes through, drawn once{share}, in {count}" + augmented,
    )


def _goes_through(loader: DataLoader[Any]) -> tuple[int | None, Sequence[Any], torch.Tensor | None]:
    """The size of the loader's batches, the indices that its sampler goes through, and their weights, if any."""
    batches = loader.batch_sampler
    if type(batches).__name__ == "BatchSamplerShard":  # of Accelerate: the batches of this process
        batches = batches.batch_sampler  # type: ignore[union-attr]
    plain = batches is None or type(batches) is BatchSampler
    sampler: Any = loader.sampler if batches is None else getattr(batches, "sampler", None) if plain else batches
    size = None if batches is None else getattr(batches, "batch_size", None)
    size = size if isinstance(size, int) and size > 0 else None
    if plain and (type(sampler) in WHOLE or type(sampler).__name__ in WHOLE_BY_NAME):
        try:
            found: Sequence[Any] = range(len(loader.dataset))  # type: ignore[arg-type]
        except TypeError:
            kind = type(loader.dataset).__name__
            raise InputError(
                f"a DataLoader of a {kind}, which has no length", expected="a data set", hint="a batch instead"
            ) from None
        return size, found, None
    if plain and type(sampler) is SubsetRandomSampler:
        return size, sampler.indices, None
    if plain and type(sampler) is WeightedRandomSampler:
        return size, range(len(sampler.weights)), sampler.weights.double()
    try:
        # A copy, since a sampler may count its passes; the data set itself, which may be large, is not copied.
        own = copy.deepcopy(sampler, {id(loader.dataset): loader.dataset})
    except Exception as error:
        raise InputError(
            f"a DataLoader whose {type(sampler).__name__} cannot be copied",
            hint="list(islice(loader, 4)), or a batch, as the data",
        ) from error
    indices = [i for each in own for i in each] if not plain else list(own)
    if size is None and not plain:
        try:
            size = max(1, round(len(indices) / len(own)))
        except TypeError:
            size = None
    return size, list(dict.fromkeys(indices)), None


def _pieces(places: list[Any], size: int) -> Iterator[list[Any]]:
    """Pieces of nearly equal length, about ``size``: a last one of a few samples has batch statistics of its own."""
    number = max(1, round(len(places) / size))
    bounds = [round(i * len(places) / number) for i in range(number + 1)]
    return (places[a:b] for a, b in pairwise(bounds))


def _collated(loader: DataLoader[Any], places: list[Any]) -> Any:
    dataset: Any = loader.dataset
    if loader.batch_sampler is None:  # the data set gives whole batches
        return loader.collate_fn(dataset[places[0]])
    if getattr(dataset, "__getitems__", None):
        return loader.collate_fn(dataset.__getitems__(places))
    return loader.collate_fn([dataset[place] for place in places])


def _random(loader: DataLoader[Any], places: list[Any]) -> bool:
    """Whether a sample differs when it is fetched twice."""
    one, other = (tensors_of(_collated(loader, places[:1])) for _ in range(2))
    return len(one) != len(other) or any(
        a.shape != b.shape or not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, other, strict=False)
    )


def _first_samples(loader: DataLoader[Any], samples: int) -> Probe:
    dataset: Any = loader.dataset
    iterator = iter(dataset)
    if iterator is dataset:
        raise InputError(
            f"a DataLoader of a {type(dataset).__name__} that can be read only once",
            expected="data of which a part can be read without taking it from training",
            hint="a batch, or a list of batches",
        )
    size = loader.batch_size
    if size is None:  # the data set gives whole batches
        batches, count = [], 0
        for item in iterator:
            batches.append(loader.collate_fn(item))
            leaves = pytree.tree_leaves(batches[-1])
            count += next((len(leaf) for leaf in leaves if getattr(leaf, "ndim", 0)), 1)
            if count >= samples:
                break
    else:
        items = list(islice(iterator, samples))
        batches, count = [loader.collate_fn(piece) for piece in _pieces(items, size) if piece], len(items)
    if not count:
        raise InputError("a DataLoader without samples", expected="at least one")
    return Probe(batches, count, size, f"the first {count:,} samples of the DataLoader's iterable data set, read once")
