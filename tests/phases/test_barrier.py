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
from edgescope.phases import barrier, rotation
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import random_nets, simulate
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
    return simulate(Gaussian(np.diag(signals)), nets, sizes, decay=decay, lr=0.1, steps=8000, threads=1).nets


def flat(nets: np.ndarray, width: int, size: int) -> Tensor:
    """The weights of one simulated network as a vector of the objective."""
    sizes = [size, *[width] * (nets.shape[1] - 1), size]
    return torch.cat([torch.tensor(nets[0, i, :b, :a]).flatten() for i, (a, b) in enumerate(pairwise(sizes))])


def both_states(signals: tuple[float, ...], width: int, decay: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Networks without and with the second mode, the one made from the other by descent."""
    start = 1.5 * random_nets((2, *[width] * (depth - 1), 2), 1, seed=1)
    learned = relaxed(signals, relaxed(signals, start, width, 0.03, depth), width, decay, depth)
    lost = relaxed(signals, learned, width, 1.1 * Mode(depth, signals[1]).critical_decay(), depth)
    return relaxed(signals, lost, width, decay, depth), learned


def turned(nets: np.ndarray, turns: list[np.ndarray], size: int = 2) -> np.ndarray:
    """The same function of other weights: each hidden layer turned, the one above it turned back."""
    nets, width = nets.copy(), len(turns[0])
    for layer, turn in enumerate(turns):
        inputs, outputs = width if layer else size, width if layer + 1 < len(turns) else size
        nets[:, layer, :width, :inputs] = turn @ nets[:, layer, :width, :inputs]
        nets[:, layer + 1, :outputs, :width] = nets[:, layer + 1, :outputs, :width] @ turn.T
    return nets


def any_turns(width: int, count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    turns = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(count)]
    return [turn * np.where(np.arange(width) == 0, np.sign(np.linalg.det(turn)), 1) for turn in turns]


@pytest.mark.parametrize(
    ("signals", "width", "decay", "depth", "seed"),
    [((0.9, 0.8), 4, 0.25, 3, 0), ((0.9, 0.6), 6, 0.15, 3, 1), ((1.0, 0.7), 3, 0.12, 4, 2)],
)
def test_a_turn_of_the_hidden_layers_costs_nothing(
    signals: tuple[float, ...], width: int, decay: float, depth: int, seed: int
) -> None:
    mode, here = Mode(depth, signals[1]), problem(signals, width, decay, depth)
    trapped, learned = both_states(signals, width, decay, depth)
    start, end = flat(trapped, width, 2), flat(turned(learned, any_turns(width, depth - 1, seed)), width, 2)
    straight = [float(here.loss(start + share * (end - start))) for share in np.linspace(0, 1, 21)]
    assert max(straight) - straight[0] > 2 * mode.barrier_up(decay)
    found = barrier(here, start, end, steps=200)
    assert found.converged
    assert found.height == pytest.approx(mode.barrier_up(decay), rel=2e-3)
    assert found.reverse_height == pytest.approx(mode.barrier_down(decay), rel=2e-3)


@pytest.mark.parametrize(("width", "decay", "depth"), [(4, 0.25, 3), (2, 0.34, 3), (3, 0.15, 4)])
def test_opposite_turns_are_undone_on_the_way_that_rotation_shows(width: int, decay: float, depth: int) -> None:
    """The straight line leads through states of lower rank; for width 2 the way back is a hump between two images."""
    signals = (0.9, 0.8)
    mode, here = Mode(depth, signals[1]), problem(signals, width, decay, depth)
    trapped, learned = both_states(signals, width, decay, depth)
    half = np.diag([-1.0, -1.0, *[1.0] * (width - 2)])
    start, near = flat(trapped, width, 2), flat(learned, width, 2)
    end = flat(turned(learned, [half] * (depth - 1)), width, 2)
    way = rotation(here, near, end)
    assert torch.equal(way[-1], end)
    assert float((way[0] - near).norm()) < 1e-3 * float((end - near).norm())
    assert torch.stack([here.loss(w) for w in way]).numpy() == pytest.approx(float(here.loss(end)), rel=1e-12)
    found = barrier(here, start, end, steps=300, through=rotation(here, start, end))
    assert found.converged
    assert found.height == pytest.approx(mode.barrier_up(decay), rel=2e-3)
    assert found.reverse_height == pytest.approx(mode.barrier_down(decay), rel=2e-3)
    level = barrier(here, near, end, through=way, steps=300)
    assert level.height <= level.error < 0.02 * mode.barrier_up(decay)


@pytest.mark.parametrize("seed", range(2))
def test_two_layers_have_no_barrier(seed: int) -> None:
    signals, width, decay = (0.9, 0.8), 3, 0.3
    here = problem(signals, width, decay, 2)
    start = 1.5 * random_nets((2, width, 2), 1, seed=seed)
    learned = relaxed(signals, relaxed(signals, start, width, 0.03, 2), width, decay, 2)
    ends = [flat(net, width, 2) for net in (learned, turned(learned, any_turns(width, 1, seed)))]
    found = barrier(here, *ends, steps=200)
    assert found.converged
    assert found.height <= found.error < 1e-3
    assert float(here.loss((ends[0] + ends[1]) / 2) - here.loss(ends[0])) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_rotation_finds_the_turn_of_networks_that_are_not_balanced(seed: int) -> None:
    here, rng = problem((0.9, 0.8), 4, 0.2), np.random.default_rng(seed)
    nets = np.zeros((1, 3, 4, 4))
    nets[0, 0, :, :2], nets[0, 1], nets[0, 2, :2] = (rng.standard_normal(s) for s in ((4, 2), (4, 4), (2, 4)))
    near, far = flat(nets, 4, 2), flat(turned(nets, any_turns(4, 2, seed + 10)), 4, 2)
    way = rotation(here, near, far, points=5)
    assert float((way[0] - near).norm()) < 0.01 * float((far - near).norm())
    assert torch.stack([here.loss(w) for w in way]).numpy() == pytest.approx(float(here.loss(far)), rel=1e-12)
    lengths = (way[1:] - way[:-1]).norm(dim=1)
    assert float(lengths.max() / lengths.min()) < 1.001
    mirrored = flat(turned(nets, [np.diag([-1.0, 1, 1, 1]), np.eye(4)]), 4, 2)  # no turn leads there
    way = rotation(here, near, mirrored, points=3)
    assert float((way[-1] - mirrored).norm()) < 1e-12
    assert torch.stack([here.loss(w) for w in way]).numpy() == pytest.approx(float(here.loss(mirrored)), rel=1e-12)
    assert 0.1 < float((way[0] - near).norm()) <= float((mirrored - near).norm())


def test_a_path_that_has_not_come_to_rest_says_how_far_off_it_may_be() -> None:
    mode, here = Mode(3, 0.8), problem((0.9, 0.8), 4, 0.25)
    trapped, learned = both_states((0.9, 0.8), 4, 0.25, 3)
    end = flat(turned(learned, any_turns(4, 2, 0)), 4, 2)
    for steps in (10, 15):
        found = barrier(here, flat(trapped, 4, 2), end, steps=steps)
        assert not found.converged
        assert found.steps == steps
        assert 1e-4 * found.height < abs(found.height - mode.barrier_up(0.25)) < found.error < 2 * found.height
        assert found.across > 0


@pytest.mark.parametrize(
    ("signals", "width", "decay", "depth"),
    [((0.9, 0.8), 4, 0.25, 3), ((1.0, 0.5), 6, 0.12, 3), ((1.0, 0.7), 3, 0.1, 4)],
)
def test_networks_that_lose_a_mode_pass_the_closed_form(
    signals: tuple[float, ...], width: int, decay: float, depth: int
) -> None:
    mode, here = Mode(depth, signals[1]), problem(signals, width, decay, depth)
    trapped, learned = (flat(n, width, 2) for n in both_states(signals, width, decay, depth))
    found = barrier(here, trapped, learned)
    assert found.converged
    assert found.height == pytest.approx(mode.barrier_up(decay), rel=1e-3)
    assert found.reverse_height == pytest.approx(mode.barrier_down(decay), rel=1e-3)
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


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-3), (torch.float32, 5e-3)])
def test_a_barrier_is_found_in_single_precision_too(dtype: torch.dtype, close: float) -> None:
    objective = es.Objective(
        MuellerBrown().to(dtype), lambda m, _: m(), torch.zeros(1, dtype=dtype), path="kept", threads=1
    )
    ends = [torch.tensor(p, dtype=dtype) for p in ((-0.050011, 0.466694), (0.623499, 0.028038))]
    found = barrier(objective, *ends, images=9)
    assert found.path.dtype == dtype
    assert found.converged
    assert found.saddle.tolist() == pytest.approx([0.212487, 0.292988], abs=close)
    assert found.height == pytest.approx(-72.2489 + 80.7678, abs=close)


def test_a_path_that_runs_away_is_told_of() -> None:
    class Cliff(nn.Module):
        """Flat where the band is laid, so that its steps are long, and without a bottom beside it."""

        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self) -> Tensor:
            return -torch.exp(self.at[1] * 300) + 1e-3 * torch.cos(self.at[0])

    objective = es.Objective(Cliff(), lambda m, _: m(), torch.zeros(1, dtype=torch.float64), path="kept", threads=1)
    ends = [torch.tensor([x, 0.0], dtype=torch.float64) for x in (-2.0, 2.0)]
    with pytest.raises(InputError, match="the path diverged: its losses are not finite; try"):
        barrier(objective, *ends, images=5)


def test_between_a_slope_and_its_foot_there_is_no_barrier() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    data = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    objective = es.Objective(model, es.supervised(nn.functional.mse_loss), data, path="kept", threads=1)
    found = barrier(objective, torch.tensor([2.0], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64))
    assert found.height == 0.0
    assert found.reverse_height == pytest.approx(4.0)


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
        (w.tolist(), "end given as a value of type list"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            barrier(here, w, end)
        assert "\n" not in str(caught.value)
    for options, words in (
        ({"images": 0}, "images=0"),
        ({"steps": 0}, "steps=0"),
        ({"tol": 0.0}, "tol=0"),
        ({"through": w}, "through of shape"),
        ({"through": w[None].tolist()}, "through given as a value of type list"),
        ({"progress": 3}, "progress=3"),
        ({"through": w[None, :-1]}, "through of shape .1, 20.; expected shape .k, 21."),
    ):
        with pytest.raises(InputError, match=words) as caught:
            barrier(here, w, w + 1, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_layers_that_cannot_be_turned_are_named_in_one_line() -> None:
    data = (torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    biased = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).double()
    bent = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False)).double()
    for model, words in (
        (biased, "not a chain of matrices"),
        (bent, "the loss changes by .* when hidden layers are rotated"),
    ):
        here = es.Objective(model, es.supervised(es.losses.half_mse), data, path="kept", threads=1)
        ends = [2 * torch.randn(here.size, generator=torch.Generator().manual_seed(k)).double() for k in (1, 2)]
        with pytest.raises(InputError, match=words) as caught:
            rotation(here, *ends)
        assert "\n" not in str(caught.value)
    here = problem((0.9, 0.8), 3, 0.2)
    w = here.parameters()
    for call, words in (
        (lambda: rotation(here, w, w[:-1]), "end of shape .20,.; expected .21,."),
        (lambda: rotation(here, w.tolist(), w), "start given as a value of type list"),
        (lambda: rotation(here, w, w, points=1), "points=1"),
        (lambda: rotation(w, w, w), "objective=tensor"),
        (lambda: barrier(w, w, w), "objective=tensor"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
