"""Gradients of mini-batches and products along them, against an objective for each mini-batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.errors import NotDifferentiableError
from edgescope.objective import mini_batches
from edgescope.objective.batch_curvature import along_gradients

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

COUNT = 6


def plain(**options: object) -> es.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    data = torch.randn(30, 4).double(), torch.randn(30, 3).double()
    return es.Objective(model, es.supervised(nn.functional.mse_loss), data, **{"path": "kept", "threads": 1} | options)  # type: ignore[arg-type]


def normalised() -> es.Objective:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    data = torch.randn(30, 4), torch.randint(3, (30,))
    return es.Objective(model, es.supervised(nn.functional.cross_entropy), data, path="kept", threads=1)


def ignored() -> es.Objective:
    """Mini-batches whose loss is a mean over different numbers of targets, of a loader that is read anew."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Embedding(9, 5, padding_idx=0), nn.Linear(5, 3)).double()
    targets = torch.randint(3, (30, 4))
    targets[:, 2:][torch.rand(30, 2) < 0.5] = -100
    data = DataLoader(TensorDataset(torch.randint(9, (30, 4)), targets), batch_size=11)

    def loss(outputs: Tensor, classes: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), classes.flatten())

    return es.Objective(model, es.supervised(loss), data, path="kept", threads=1)


CASES = {
    "plain": plain,
    "l2": lambda: plain(l2=0.3),
    "cut": lambda: plain(chunk=3),
    "graphs rebuilt": lambda: plain(path="rebuilt"),
    "forward": lambda: plain(path="forward"),
    "chosen parameters": lambda: plain(params="2.*"),
    "batch statistics": normalised,
    "targets that are ignored": ignored,
}


@pytest.mark.parametrize("add", [False, True], ids=["gradient", "with decay"])
@pytest.mark.parametrize("case", CASES)
def test_they_are_those_of_an_objective_of_each_mini_batch(case: str, add: bool) -> None:
    objective = CASES[case]()
    extra = 0.2 * objective.parameters() if add else None
    found: list[tuple[Tensor, Tensor]] = []
    state = {name: value.clone() for name, value in objective.model.state_dict().items()}
    spent = along_gradients(objective, 7, COUNT, lambda g, h: found.append((g, h)), seed=3, add=extra)
    rel = 1e-12 if objective.dtype == torch.float64 else 1e-5
    assert len(found) == COUNT
    for part, (gradient, product) in zip(mini_batches(objective, 7, COUNT, seed=3), found, strict=True):
        expected = part.gradient() if extra is None else part.gradient() + extra
        torch.testing.assert_close(gradient, expected, rtol=rel, atol=rel)
        torch.testing.assert_close(product, part.hvp(expected), rtol=10 * rel, atol=10 * rel)
    torch.testing.assert_close(state, objective.model.state_dict(), rtol=0, atol=0)
    assert spent.products == COUNT
    assert spent.gradients <= (2 * COUNT if case in ("graphs rebuilt", "forward") else COUNT + 1)


def test_a_later_mini_batch_without_second_derivatives_is_named() -> None:
    """Only that of the last sample has none; it is drawn after others were evaluated."""
    data = torch.ones(20, 1).double()
    data[19] = 2

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        outputs = model(batch)
        far = torch.cdist(outputs, outputs + 1) if bool((batch > 1).any()) else outputs
        return far.square().mean()

    objective = es.Objective(nn.Linear(1, 1).double(), loss_fn, data, path="kept", threads=1, check=False)
    found: list[Tensor] = []
    with pytest.raises(NotDifferentiableError, match="cdist"):
        along_gradients(objective, 2, 200, lambda g, h: found.append(h), seed=1)
    assert 1 < len(found) < 200
