from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 3


def network(normalised: bool = False) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(5) if normalised else nn.Identity()
    return nn.Sequential(nn.Linear(4, 5), middle, nn.Tanh(), nn.Linear(5, 3))


def watched(batch: int, normalised: bool = False, **options: object) -> es.Monitor:
    model = network(normalised)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(TensorDataset(X, Y), batch_size=batch)
    return es.watch(model, optimizer, F.cross_entropy, loader, every=1, samples=32, **options)


def test_on_mini_batches_the_batch_sharpness_is_beside_the_ratio() -> None:
    monitor = watched(batch=8)
    model, optimizer = monitor.objective.model, monitor.optimizers[0]
    F.cross_entropy(model(X[:8]), Y[:8]).backward()
    expected = es.batch_sharpness(monitor.objective, 8)
    optimizer.step()
    monitor.close()
    first = monitor.table().filter(measure="batch_sharpness", step=0)
    assert dict(zip(first["part"], first["value"], strict=True))["weighted"] == pytest.approx(expected.weighted)
    assert "batch_sharpness" in monitor.latest["ratio"].note


@pytest.mark.parametrize(
    "monitor",
    [
        lambda: watched(batch=32),
        lambda: watched(batch=8, normalised=True, mode="train"),
        lambda: watched(batch=8, measures=["ratio"]),
        lambda: es.Monitor(es.Objective(network(), es.supervised(F.cross_entropy), (X, Y)), every=1),
    ],
)
def test_it_is_left_out_where_it_says_nothing_cannot_be_drawn_or_was_not_asked_for(monitor: object) -> None:
    made = monitor()  # type: ignore[operator]
    assert "batch_sharpness" not in [measure.name for measure in made.measures]
    made.close()


@pytest.mark.parametrize(
    ("make", "normalised", "expected"),
    [
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), False, "batch_sharpness"),
        (lambda p: torch.optim.SGD(p, 0.1), True, "batch_ratio"),
        (lambda p: torch.optim.Adam(p, 0.01), False, "batch_ratio"),
        (lambda p: torch.optim.AdamW(p, 0.01), True, "batch_ratio"),
    ],
)
def test_of_other_optimizers_and_with_batch_normalization_it_is_the_ratio_of_steps(
    make: Callable[..., torch.optim.Optimizer], normalised: bool, expected: str
) -> None:
    model = network(normalised)
    optimizer, loader = make(model.parameters()), DataLoader(TensorDataset(X, Y), batch_size=8)
    with es.watch(model, optimizer, F.cross_entropy, loader, every=1, samples=32) as monitor:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    both = {"batch_sharpness", "batch_ratio"} & {measure.name for measure in monitor.measures}
    assert both == {expected}
    assert monitor.table().filter(measure=expected)["value"].is_not_null().sum() >= 3
    found = monitor.verdict()
    assert found.regime in ("flow-aligned", "sharpening")
    assert found.figures[0].measure == expected
