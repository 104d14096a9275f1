"""What an objective was made on stays what it measures: data are held as copies, or refused once they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from live_reference import agrees, at_once, over_batches, refused
from objective_problems import mlp, relative
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from edgescope.errors import EdgescopeWarning, InputError, NotDeterministicError
from edgescope.losses import supervised
from edgescope.objective import Objective, in_precision

LOSS = supervised(F.cross_entropy)


def rows(n: int = 20) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is too large to be held."""
    monkeypatch.setattr("edgescope.objective.batches.available", lambda device: 0)


class OneBuffer:
    """A loader that fills the same tensors again for every batch, as hand-written ones do."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size
        self.buffer = x[:size].clone(), y[:size].clone()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.x), self.size):
            self.buffer[0].copy_(self.x[start : start + self.size])
            self.buffer[1].copy_(self.y[start : start + self.size])
            yield self.buffer


def with_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()


def check_one_buffer() -> None:
    x, y = rows()
    model, norm = mlp().double(), with_statistics()
    agrees(Objective(model, LOSS, OneBuffer(x, y, 5)), at_once(model, LOSS, (x, y)))
    batches = [(x[i : i + 5], y[i : i + 5]) for i in range(0, 20, 5)]
    agrees(Objective(norm, LOSS, OneBuffer(x, y, 5)), over_batches(norm, LOSS, batches, (_NormBase,)))
    ignored = torch.where(torch.arange(20) < 12, -100, y)  # the batch that is looked at is not the last one
    agrees(Objective(model, ignoring, OneBuffer(x, ignored, 5)), at_once(model, ignoring, (x, ignored)))


def ignoring(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]), b[1])


def test_a_loader_with_one_buffer() -> None:
    check_one_buffer()


@pytest.mark.usefixtures("no_memory")
def test_a_loader_with_one_buffer_that_is_streamed() -> None:
    check_one_buffer()


Change = Callable[[Any, Any], None]


def by_data(x: Any, y: Any) -> None:
    x.data[3].mul_(2.0)


def by_view(x: Any, y: Any) -> None:
    x.view(-1)[7] += 1.0


def by_labels(x: Any, y: Any) -> None:
    y[4] = (y[4] + 1) % 3


CHANGES: dict[str, Change] = {
    "in-place": lambda x, y: x.mul_(2.0),
    "data": by_data,
    "view": by_view,
    "labels": by_labels,
}
FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "pair": lambda x, y: (x, y),
    "dict": lambda x, y: {"inputs": x, "targets": y},
    "batches": lambda x, y: [(x[:12], y[:12]), (x[12:], y[12:])],
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=12),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", CHANGES)
def test_held_data_do_not_change_with_those_of_the_caller(change: str, form: str) -> None:
    x, y = rows()
    model = mlp().double()
    live = at_once(model, LOSS, (x.clone(), y.clone()))
    objective = Objective(model, LOSS, FORMS[form](x, y))
    CHANGES[change](x, y)
    agrees(objective, live)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("dtype", [None, torch.float32], ids=["own", "converted"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", CHANGES)
def test_data_too_large_to_be_held_are_refused_once_they_change(change: str, form: str, dtype: Any) -> None:
    x, y = rows()
    objective = Objective(mlp().double(), LOSS, FORMS[form](x, y), dtype=dtype)
    w = objective.parameters() + 0.1
    before = objective.loss(w).clone(), objective.gradient(w).clone()
    assert relative(objective.loss(w), before[0]) == 0
    CHANGES[change](x, y)
    for call in (objective.loss, objective.gradient, lambda: in_precision(objective, torch.float32).loss()):
        refused(NotDeterministicError, "have changed", "too large", make=call)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    x, y = rows()
    return x.numpy().copy(), y.numpy().copy()


def test_arrays_that_share_their_memory_are_copied() -> None:
    x, y = arrays()
    model = mlp().double()
    live = at_once(model, LOSS, rows())
    objective = Objective(model, LOSS, (x, y))
    x[:] = 0.0
    agrees(objective, live)


@pytest.mark.usefixtures("no_memory")
def test_arrays_too_large_to_be_held_are_refused_once_they_change() -> None:
    x, y = arrays()
    model = mlp().double()
    objective = Objective(model, LOSS, (x, y))
    agrees(objective, at_once(model, LOSS, rows()))
    x[5] += 1.0
    refused(NotDeterministicError, "have changed", make=lambda: objective.loss(objective.parameters() + 1))


# ------------------------------------------------------------------------------- two passes that differ are refused


class TwoPasses:
    """Gives its samples as they are in the first pass, and changed in every other."""

    def __init__(self, x: Tensor, y: Tensor, change: Change, size: int = 100) -> None:
        self.x, self.y, self.change, self.size, self.passes = x, y, change, size, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.x.clone(), self.y.clone()
        if self.passes:
            self.change(x, y)
        self.passes += 1
        yield from zip(x.split(self.size), y.split(self.size), strict=True)


def put(place: int, make: Callable[[Tensor], Tensor]) -> Change:
    def change(x: Tensor, y: Tensor) -> None:
        x[place] = make(x[place].clone())

    return change


def swap_labels(x: Tensor, y: Tensor) -> None:
    i, j = int((y == 0).nonzero()[0]), int((y == 1).nonzero()[0])
    y[i], y[j] = 1, 0


def replace_by_neighbour(x: Tensor, y: Tensor) -> None:
    x[3], y[3] = x[4], y[4]


AUGMENTED: dict[str, Change] = {
    "flip": put(17, lambda image: image.flip(-1)),
    "upside-down": put(17, lambda image: image.flip(-2)),
    "roll": put(17, lambda image: image.roll(1, -1)),
    "rotate": put(17, lambda image: image.rot90(1, (-2, -1))),
    "channels": put(17, lambda image: image[[1, 0, 2]]),
    "permutation": put(17, lambda image: image.flatten()[torch.randperm(image.numel())].view(image.shape)),
    "noise": put(17, lambda image: image + 1e-4 * torch.randn_like(image)),
    "contrast": put(17, lambda image: 1.001 * image),
    "one-pixel": put(17, lambda image: image.index_fill(-1, torch.tensor([2]), 0.5)),
    "labels": swap_labels,
    "drawn-again": replace_by_neighbour,
}


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
@pytest.mark.parametrize("name", AUGMENTED)
def test_one_augmented_sample_among_a_thousand_is_seen(name: str, kind: torch.dtype) -> None:
    if kind == torch.uint8 and name in ("noise", "contrast", "one-pixel"):
        name = "flip"
    torch.manual_seed(0)
    x, y = (255 * torch.rand(1000, 3, 6, 6)).to(kind), torch.randint(3, (1000,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))

    def loss_fn(m: nn.Module, b: Any) -> Tensor:
        return F.cross_entropy(m(b[0].to(m[1].weight.dtype)), b[1])

    data = TwoPasses(x, y, AUGMENTED[name])
    refused(NotDeterministicError, "two passes", "list(loader)", make=lambda: Objective(model, loss_fn, data))
    Objective(model, loss_fn, TwoPasses(x, y, lambda x, y: None), path="kept", threads=1)


@given(st.integers(0, 10**6), st.integers(0, 49), st.integers(0, 5))
@settings(max_examples=40, derandomize=True)
def test_one_changed_token_is_seen(seed: int, row: int, column: int) -> None:
    torch.manual_seed(seed)
    tokens = torch.randint(5, (50, 6))

    def change(x: Tensor, y: Tensor) -> None:
        x[row, column] = (x[row, column] + 1) % 5

    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(18, 3))
    data = TwoPasses(tokens, torch.randint(3, (50,)), change, 20)
    refused(NotDeterministicError, "two passes", make=lambda: Objective(model, LOSS, data))


def contrastive(m: nn.Module, b: Any) -> Tensor:
    z = m(b[0])
    return F.cross_entropy(z @ z.T, torch.arange(len(z)))


def shuffled() -> DataLoader:
    return DataLoader(TensorDataset(*rows()), batch_size=6, shuffle=True)


def test_the_order_of_samples_does_not_matter_where_they_are_held() -> None:
    model, norm = mlp().double(), with_statistics()
    agrees(Objective(model, LOSS, shuffled()), at_once(model, LOSS, rows()))
    for loss_fn, net in ((LOSS, norm), (contrastive, model)):
        if net is model:
            with pytest.warns(EdgescopeWarning, match="stand together"):
                objective = Objective(net, loss_fn, shuffled())
        else:
            objective = Objective(net, loss_fn, shuffled())
        agrees(objective, over_batches(net, loss_fn, list(objective._problem.batches), (_NormBase,)))


@pytest.mark.usefixtures("no_memory")
def test_the_order_of_samples_matters_where_they_are_coupled_and_streamed() -> None:
    model = mlp().double()
    agrees(Objective(model, LOSS, shuffled()), at_once(model, LOSS, rows()))
    refused(
        NotDeterministicError,
        "composed differently at every pass",
        make=lambda: Objective(with_statistics(), LOSS, shuffled()),
    )
    with pytest.warns(EdgescopeWarning, match="stand together"):
        refused(
            NotDeterministicError,
            "composed differently at every pass",
            make=lambda: Objective(model, contrastive, shuffled()),
        )
    fixed = list(shuffled())
    with pytest.warns(EdgescopeWarning, match="stand together"):
        agrees(Objective(model, contrastive, fixed), over_batches(model, contrastive, fixed))


def test_data_of_other_kinds_are_refused_in_one_line() -> None:
    class Endless(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return iter(zip(*rows(), strict=True))

    x, y = rows()
    made = lambda data: lambda: Objective(mlp().double(), LOSS, data)  # noqa: E731
    refused(InputError, "TensorDataset", "DataLoader(data", make=made(TensorDataset(x, y)))
    refused(InputError, "Endless", "DataLoader(data", make=made(Endless()))
    refused(InputError, "the class DataLoader", "an instance", make=made(DataLoader))
    refused(InputError, "NoneType", make=made(None))
    refused(InputError, "torch.sparse_coo", "to_dense()", make=made((x.to_sparse(), y)))
    refused(InputError, "type object", "numbers", make=made((np.array([None, 1]), y)))
