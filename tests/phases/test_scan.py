"""Sweeps of weight decay: against closed forms of deep linear networks, and networks that must not be swept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import edgescope as es
from edgescope.errors import InputError
from edgescope.phases import scan
from edgescope.theory.deep_linear import Mode


def linear(depth: int, signal: float, width: int = 3) -> es.Objective:
    """One input, one output: mean squared error / 2 on data of variance 1 and correlation ``signal``."""
    torch.manual_seed(0)
    sizes = [1, *[width] * (depth - 1), 1]
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))).double()
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
            layer.weight[0, 0] = signal ** (1 / depth)
    data = (torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), signal, dtype=torch.float64))
    return es.Objective(model, es.supervised(es.losses.half_mse), data, path="kept", threads=1)


def strength(objective: es.Objective) -> float:
    return float(next(iter(objective.outputs()))[0])


def test_two_layers_lose_and_learn_their_mode_continuously_at_one_decay() -> None:
    mode = Mode(2, 0.9)
    end = mode.critical_decay()
    shares = [0.3, 0.6, 0.93, 1.07]
    objective = linear(2, 0.9)
    before = objective.parameters()
    found = scan(objective, end * np.array(shares), lr=0.1, steps=2000, order={"p": strength}, jitter=1e-3)
    expected = [mode.minimum_product(decay) for decay in found.decays]
    assert min(expected[:3]) > 0.06
    for way in (found.up, found.down):  # slow beside the transition, where 120 steps once were too few
        np.testing.assert_allclose(way["p"], expected, atol=5e-4)
    assert found.settled["up"].all()
    assert found.settled["down"].all()
    assert found.area("p") < 1e-3
    assert np.abs(np.diff(found.up["p"])).max() > 0.25 * np.ptp(found.up["p"])  # as much as a jump, until looked at
    assert found.jumps("p") == []
    assert found.cost.gradients < 8 * 2000
    assert torch.equal(objective.parameters(), before)


@pytest.mark.parametrize(("depth", "signal", "refine"), [(3, 0.9, 0), (3, 0.5, 3), (4, 0.9, 2)])
def test_deeper_networks_jump_at_their_critical_decay_and_stay_unlearned(
    depth: int, signal: float, refine: int
) -> None:
    mode = Mode(depth, signal)
    end = mode.critical_decay()
    decays = end * np.array([0.6, 0.8, 0.93, 1.07])
    found = scan(linear(depth, signal), decays, lr=0.1, steps=2000, order={"p": strength}, jitter=1e-3, refine=refine)
    expected = [mode.minimum_product(decay) for decay in decays[:3]]
    np.testing.assert_allclose(found.up["p"], [*expected, 0], atol=1e-3)
    np.testing.assert_allclose(found.down["p"], 0, atol=1e-6)  # the way back has no end at any decay
    assert found.settled["up"].all()
    assert found.settled["down"].all()
    (jump,) = found.jumps("p")
    assert jump.way == "up"
    assert jump.before < end < jump.after
    assert np.log(jump.after / jump.before) == pytest.approx(np.log(1.07 / 0.93) / 2**refine)
    assert -jump.size > mode.critical_product()
    area = np.trapezoid([*expected, 0], np.log(decays)) / expected[0]
    assert found.area("p") == pytest.approx(area, rel=0.01)


def test_the_way_back_begins_where_the_jitter_reaches_the_saddle() -> None:
    jitter, mode = 0.03, Mode(3, 0.9)
    found = scan(linear(3, 0.9), [0.01, 0.1, 0.5], lr=0.1, steps=1500, order={"p": strength}, jitter=jitter)
    lost, learned = found.jumps("p")
    assert (lost.way, learned.way) == ("up", "down")
    assert lost.before < mode.critical_decay() < lost.after
    # No layer grows whose norm w has decay w > s w^2, and that of nine jittered weights is below four times the jitter.
    assert 0.01 < learned.after < mode.signal * 4 * jitter
    assert found.down["p"] == pytest.approx([mode.minimum_product(0.01), 0, 0], abs=1e-3)


def test_a_network_that_is_still_under_way_says_so() -> None:
    found = scan(linear(2, 0.9), [0.3, 0.85, 1.0], lr=0.1, steps=40, order={"p": strength}, jitter=1e-3, refine=0)
    assert found.area("p") > 0.02  # no loop is there: growth at 0.85 takes hundreds of steps
    assert not found.settled["down"][1]
    assert found.residual["down"][1] > 0.01


def test_usual_order_parameters_of_a_classifier() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs = torch.randn(60, 2, dtype=torch.float64)
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
    objective = es.Objective(
        model, es.supervised(nn.functional.cross_entropy), (inputs, targets), path="kept", threads=1
    )
    found = scan(objective, [1.0, 1e-3, 1e-2], lr=0.3, steps=60)
    assert found.decays.tolist() == [1e-3, 1e-2, 1.0]
    assert set(found.up) == {"norm", "loss", "rank", "accuracy"}
    assert found.up["accuracy"][0] > 0.85
    assert found.up["rank"].tolist()[0] == 2
    assert found.up["rank"].tolist()[-1] == 0
    assert found.up["norm"][0] > 2 * found.up["norm"][-1]
    objective.assign(found.states["up"][0])
    assert float(objective.loss()) == pytest.approx(found.up["loss"][0])


def test_what_cannot_be_swept_is_named_in_one_line() -> None:
    objective = linear(2, 0.9)
    for decays, options, words in (
        ([0.1, 0.0], {}, "decays.1. is 0"),
        ([0.1, 0.1], {}, "1 different decays"),
        ([0.1, 0.2], {"optimizer": "gradient-flow"}, "no weight decay"),
        ([0.1, 0.2], {"lr": 1e6}, "diverged"),
        ([0.1, 0.2], {"jitter": -1.0}, "jitter=-1"),
        ([0.1, 0.2], {"steps": 0}, "steps=0"),
        ([0.1, 0.2], {"first": 0}, "first=0"),
        ([0.1, 0.2], {"refine": -1}, "refine=-1"),
        ([0.1, 0.2], {"tol": 0.0}, "tol=0"),
        ([0.1, 0.2], {"lr": 0.0}, "lr=0"),
        ([0.1, 0.2], {"optimizer": 3}, "optimizer=3"),
        ([0.1, 0.2], {"order": {"norm": 3}}, "order given as a value of type dict"),
        ([0.1, 0.2], {"progress": "yes"}, "progress='yes'"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            scan(objective, decays, **{"lr": 0.1, "steps": 30} | options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    decayed = es.Objective(objective.model, objective.loss_fn, (torch.ones(1, 1).double(),) * 2, l2=0.1, threads=1)
    with pytest.raises(InputError, match="with l2="):
        scan(decayed, [0.1, 0.2], lr=0.1, steps=2)
    with pytest.raises(InputError, match="no order parameter 'rnak'"):
        scan(objective, [0.1, 0.2], lr=0.1, steps=2).area("rnak")
