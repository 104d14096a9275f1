"""The samples of a DataLoader that are measured: drawn once, from where training draws, without any effect on it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from monitor_runs import LOSS, data, small
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import edgescope as es
from edgescope.errors import InputError
from edgescope.monitor.probe import draw_probe


class Counted(Dataset[Any]):
    """Sample i is the number i; remembers what was fetched."""

    def __init__(self, size: int = 100) -> None:
        self.size, self.fetched = size, list[int]()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> Tensor:
        self.fetched.append(place)
        return torch.tensor([float(place)])


class Augmented(Counted):
    """Each sample has noise from three generators."""

    def __getitem__(self, place: int) -> Tensor:
        noise = float(torch.rand(())) + random.random() + float(np.random.rand())  # noqa: NPY002
        return super().__getitem__(place) + noise


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        return (torch.tensor([float(i)]) for i in range(50))


class Once(Streamed):
    def __iter__(self) -> Iterator[Tensor]:
        return self  # type: ignore[return-value]

    def __next__(self) -> Tensor:
        raise AssertionError("it was read")


class OfItsOwn(Sampler[int]):
    """Goes through the even numbers, and counts its passes."""

    def __init__(self) -> None:
        self.passes, self.generator = 0, torch.Generator().manual_seed(3)

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        return iter((2 * torch.randperm(50, generator=self.generator)).tolist())


def numbers(loader: DataLoader[Any], samples: int = 20, **options: Any) -> list[int]:
    probe = draw_probe(loader, samples, **options)
    found = torch.cat([batch.flatten() for batch in probe.batches]).int().tolist()
    assert len(found) == probe.samples
    return found


@pytest.mark.parametrize("shuffle", [True, False])
def test_samples_are_distinct_and_drawn_from_the_seed_alone(shuffle: bool) -> None:
    loader = DataLoader(Counted(), batch_size=8, shuffle=shuffle)
    found = numbers(loader)
    assert len(set(found)) == 20
    assert max(found) >= 50, "not the first ones"
    assert numbers(loader) == found != numbers(loader, seed=1)
    assert sorted(numbers(loader, 1000)) == list(range(100))


def test_batches_are_near_the_size_of_the_loader() -> None:
    sizes = [len(batch) for batch in draw_probe(DataLoader(Counted(), batch_size=8), 21).batches]
    assert sizes == [7, 7, 7]
    assert [len(batch) for batch in draw_probe(DataLoader(Counted(), batch_size=64), 21).batches] == [21]


def test_only_samples_that_training_sees_are_drawn() -> None:
    subset = DataLoader(Counted(), batch_size=4, sampler=SubsetRandomSampler(range(30, 60)))
    assert set(numbers(subset, 1000)) == set(range(30, 60))
    weights = torch.zeros(100)
    weights[:10] = 1.0
    weighted = DataLoader(Counted(), batch_size=4, sampler=WeightedRandomSampler(weights.tolist(), 100))
    assert set(numbers(weighted, 1000)) == set(range(10))
    own = OfItsOwn()
    assert all(n % 2 == 0 for n in numbers(DataLoader(Counted(), batch_size=4, sampler=own)))
    in_batches = DataLoader(Counted(), batch_sampler=[[1, 2, 3], [7, 8, 9]])
    assert set(numbers(in_batches)) == {1, 2, 3, 7, 8, 9}


def test_nothing_of_the_loader_or_of_the_generators_is_changed() -> None:
    own = OfItsOwn()
    generator = torch.Generator().manual_seed(5)
    loaders = [
        DataLoader(Augmented(), batch_size=4, shuffle=True, generator=generator),
        DataLoader(Augmented(), batch_size=4, sampler=own),
        DataLoader(Augmented(), batch_sampler=BatchSampler(RandomSampler(range(100)), 4, False)),
    ]
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for loader in loaders:
        draw_probe(loader, 20)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())
    assert own.passes == 0
    assert torch.equal(own.generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_random_augmentation_is_drawn_from_the_seed_and_said() -> None:
    loader = DataLoader(Augmented(), batch_size=4)
    probe = draw_probe(loader, 20)
    torch.manual_seed(99)
    again = draw_probe(loader, 20)
    assert all(torch.equal(a, b) for a, b in zip(probe.batches, again.batches, strict=True))
    assert "augmentation is random" in probe.description
    assert "augmentation" not in draw_probe(DataLoader(Counted(), batch_size=4), 20).description


def test_samples_are_fetched_once_and_collated_as_the_loader_does() -> None:
    dataset = Counted()
    loader = DataLoader(dataset, batch_size=4, collate_fn=lambda items: {"x": torch.stack(items)}, num_workers=2)
    probe = draw_probe(loader, 20)
    assert sorted(dataset.fetched)[::1] != []
    assert len(dataset.fetched) == 20 + 2  # one of them twice, to see whether augmentation is random
    assert set(probe.batches[0]) == {"x"}


def test_a_data_set_that_gives_batches_is_taken_in_batches() -> None:
    loader = DataLoader([torch.arange(4.0), torch.arange(4.0, 8.0)], batch_size=None)  # type: ignore[arg-type]
    assert [len(batch) for batch in draw_probe(loader, 20).batches] == [4, 4]


def test_an_iterable_data_set_gives_its_first_samples() -> None:
    assert numbers(DataLoader(Streamed(), batch_size=8)) == list(range(20))
    assert "first 20 samples" in draw_probe(DataLoader(Streamed(), batch_size=8), 20).description
    with pytest.raises(InputError, match="read only once"):
        draw_probe(DataLoader(Once(), batch_size=8), 20)


def test_a_watched_loop_over_a_loader_sees_the_same_batches() -> None:
    def batches(watched: bool) -> tuple[list[Tensor], Tensor]:
        model, optimizer_seed = small(), 7
        torch.manual_seed(optimizer_seed)
        optimizer = SGD(model.parameters(), lr=0.1)
        loader = DataLoader(TensorDataset(*data(60)), batch_size=10, shuffle=True)
        monitor = es.watch(model, optimizer, LOSS, loader, samples=30, every=4, measures=["loss"]) if watched else None
        seen = []
        for _ in range(2):
            for batch in loader:
                seen.append(batch[0])
                optimizer.zero_grad()
                LOSS(model, batch).backward()
                optimizer.step()
        if monitor is not None:
            monitor.close()
            assert monitor.table()["step"].to_list() == [0, 4, 8, 12]
            assert "30 of the 60 samples" in monitor.description
            assert monitor.objective.samples == 30
        return seen, copy.deepcopy(torch.cat([p.detach().flatten() for p in model.parameters()]))

    with_it, without = batches(True), batches(False)
    assert all(torch.equal(a, b) for a, b in zip(with_it[0], without[0], strict=True))
    assert torch.equal(with_it[1], without[1])
