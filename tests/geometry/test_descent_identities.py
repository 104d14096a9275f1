"""A step of steepest descent changes the loss as its directional smoothness says, in every geometry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import edgescope as es
from edgescope.errors import InputError

NAMES = ["euclidean", "linf", "blocks", "spectral", "diagonal", "mixed"]


class Square(torch.nn.Module):
    """Two layers with activation x -> x^2/4 + x: the loss is a polynomial of degree 6, so three nodes integrate it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(h * h / 4 + h)


def objective(seed: int) -> es.Objective:
    torch.manual_seed(seed)
    model = Square().double()
    data = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    return es.Objective(model, es.supervised(torch.nn.functional.mse_loss), data, path="rebuilt", threads=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ["auto", "products"])
def test_descent_identities(name: str, seed: int, method: str) -> None:
    """By differences of losses they hold by definition of D; by products alone D predicts the change."""
    loss = objective(seed)
    geometry = es.geometry.as_geometry(name).bind([slot.shape for slot in loss.layout])
    w, g = loss.parameters(), loss.gradient()
    dual, rises = float(geometry.dual_norm(g)), []
    for share in (0.1, 30.0):  # of the loss, that the gradient alone says it will fall by
        for normalized in (False, True):
            fall = share * float(loss.loss())
            lr = fall / dual if normalized else fall / dual**2
            w_next = w - lr * (geometry.steepest(g) if normalized else geometry.descent(g))
            D = es.directional_smoothness(loss, w, w_next, name, method=method).value
            change = float(loss.loss(w_next) - loss.loss(w))
            said = -lr * (dual - lr * D / 2) if normalized else -lr * (1 - lr * D / 2) * dual**2
            threshold = 2 * dual / lr if normalized else 2 / lr
            assert change == pytest.approx(said, rel=1e-8)
            assert (change > 0) == (threshold < D)
            rises.append(change > 0)
    assert rises == [False, False, True, True]


def test_a_geometry_that_does_not_fit_is_refused() -> None:
    loss = objective(0)
    w = loss.parameters()
    with pytest.raises(InputError, match="3 entries for tensors that hold 43"):
        es.directional_smoothness(loss, w, w + 1, es.geometry.Diagonal(torch.ones(3)))
    with pytest.raises(InputError, match="'linf'"):
        es.directional_smoothness(loss, w, w + 1, "lin")
