"""Barriers: against closed forms of deep linear networks, a potential with known saddles, and solutions that differ."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import InputError
from edgescope.phases import barrier
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import follow, random_nets
from edgescope.theory.deep_linear import Mode


def linear_net(width: int, depth: int = 3, size: int = 2) -> nn.Module:
    sizes = [size, *[width] * (depth - 1), size]
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))).double()


def problem(signals: tuple[float, ...], width: int, decay: float, depth: int = 3) -> es.Objective:
    """Inputs and targets whose second moments are the identity and the signals."""
    size = len(signals)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return 0.5 * size * (model(inputs) - targets).square().sum(1).mean()

    data = (torch.eye(size, dtype=torch.float64), torch.diag(torch.tensor(signals, dtype=torch.float64)))
    return es.Objective(linear_net(width, depth, size), loss, data, l2=decay, path="kept", threads=1)


def relaxed(signals: tuple[float, ...], nets: np.ndarray, width: int, decay: float, depth: int) -> np.ndarray:
    sizes = (len(signals), *[width] * (depth - 1), len(signals))
    return follow(Gaussian(np.diag(signals)), nets, sizes, decay=decay, lr=0.1, steps=8000, threads=1).nets


def flat(nets: np.ndarray, width: int, size: int) -> Tensor:
    """The weights of one simulated network as a vector of the objective."""
    sizes = [size, *[width] * (nets.shape[1] - 1), size]
    return torch.cat([torch.tensor(nets[0, i, :b, :a]).flatten() for i, (a, b) in enumerate(pairwise(sizes))])


@pytest.mark.parametrize(
    ("signals", "width", "decay", "depth"),
    [((0.9, 0.8), 4, 0.25, 3), ((1.0, 0.5), 6, 0.12, 3), ((1.0, 0.7), 3, 0.1, 4)],
)
def test_networks_that_lose_a_mode_pass_the_closed_form(
    signals: tuple[float, ...], width: int, decay: float, depth: int
) -> None:
    mode, here = Mode(depth, signals[1]), problem(signals, width, decay, depth)
    start = 1.5 * random_nets((2, *[width] * (depth - 1), 2), 1, seed=1)
    end = relaxed(signals, relaxed(signals, start, width, 0.03, depth), width, decay, depth)
    lost = relaxed(signals, end, width, 1.1 * mode.critical_decay(), depth)
    trapped, learned = (flat(n, width, 2) for n in (relaxed(signals, lost, width, decay, depth), end))
    found = barrier(here, trapped, learned)
    assert found.converged
    assert found.height == pytest.approx(mode.barrier_up(decay), rel=1e-3)
    assert found.back == pytest.approx(mode.barrier_down(decay), rel=1e-3)
    assert abs(found.height - mode.barrier_up(decay)) <= 2 * found.error + 1e-9
    assert found.cost.gradients >= 9 * found.steps
    assert float(here.loss(found.saddle)) == pytest.approx(float(found.losses.max()))


class MuellerBrown(nn.Module):
    """A potential on the plane with three minima and two saddles, the usual test of such methods."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor([0.0, 0.0], dtype=torch.float64))

    def forward(self) -> Tensor:
        x, y = self.at
        total = x.new_zeros(())
        for A, a, b, c, x0, y0 in (
            (-200, -1, 0, -10, 1, 0),
            (-100, -1, 0, -10, 0, 0.5),
            (-170, -6.5, 11, -6.5, -0.5, 1.5),
            (15, 0.7, 0.6, 0.7, -1, 1),
        ):
            total = total + A * torch.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        return total


def test_the_saddles_of_mueller_and_brown() -> None:
    model = MuellerBrown()
    objective = es.Objective(model, lambda m, _: m(), torch.zeros(1), path="kept", threads=1)
    minima = [
        torch.tensor(p, dtype=torch.float64)
        for p in ((-0.558224, 1.441726), (-0.050011, 0.466694), (0.623499, 0.028038))
    ]
    first = barrier(objective, minima[0], minima[1], images=9)
    assert float(first.losses.max()) == pytest.approx(-40.6648, abs=1e-3)
    assert first.saddle.tolist() == pytest.approx([-0.822002, 0.624313], abs=1e-3)
    second = barrier(objective, minima[1], minima[2], images=9)
    assert second.saddle.tolist() == pytest.approx([0.212487, 0.292988], abs=1e-3)
    assert second.height == pytest.approx(-72.2489 + 80.7678, abs=1e-3)
    both = barrier(objective, minima[0], minima[2], images=15, through=minima[1][None])
    assert both.height == pytest.approx(-40.6648 + 146.6995, abs=1e-2)


def test_between_a_slope_and_its_foot_there_is_no_barrier() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    data = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    objective = es.Objective(model, es.supervised(nn.functional.mse_loss), data, path="kept", threads=1)
    found = barrier(objective, torch.tensor([2.0], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64))
    assert found.height == 0.0
    assert found.back == pytest.approx(4.0)


def test_models_are_taken_as_they_are() -> None:
    here = problem((0.9,), 2, 0.2)
    zero, learned = linear_net(2, 3, 1), linear_net(2, 3, 1)
    with torch.no_grad():
        for layer, other in zip(zero, learned, strict=True):
            layer.weight.zero_()
            other.weight.zero_()
            other.weight[0, 0] = Mode(3, 0.9).minimum(0.2)
    before = here.parameters()
    assert barrier(here, zero, learned).height == pytest.approx(Mode(3, 0.9).barrier_up(0.2), rel=1e-4)
    assert torch.equal(here.parameters(), before)


def test_solutions_of_other_models_are_named_in_one_line() -> None:
    here = problem((0.9, 0.8), 3, 0.2)
    w = here.parameters()
    other = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    deeper = linear_net(3, depth=4)
    for end, words in (
        (linear_net(4), "end is a solution of another model: its 0.weight is .4, 2."),
        (other, "another model: its 1.weight is .2, 3."),
        (deeper, "another model: its 2.weight is .3, 3."),
        (w[:-1], "another model: it has shape"),
        (w.clone(), "same parameters"),
        (w * float("nan"), "not finite"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            barrier(here, w, end)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="0 images"):
        barrier(here, w, w + 1, images=0)
