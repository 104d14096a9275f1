from __future__ import annotations

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
