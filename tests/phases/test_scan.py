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
            layer.weight[0, 0] = 1.0
    data = (torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), signal, dtype=torch.float64))
    return es.Objective(model, es.supervised(es.losses.half_mse), data, path="kept", threads=1)


def strength(objective: es.Objective) -> float:
    return float(next(iter(objective.outputs()))[0])


@pytest.mark.parametrize("depth", [3])
def test_a_linear_network_follows_its_closed_form(depth: int) -> None:
    signal = 0.9
    mode = Mode(depth, signal)
    end = mode.critical_decay()
    decays = end * np.array([0.3, 0.5, 0.7, 0.9, 1.15])
    objective = linear(depth, signal)
    before = objective.parameters()
    found = scan(objective, decays, lr=0.1, steps=120, first=500, order={"p": strength}, jitter=1e-3)
    expected = [mode.minimum_product(d) for d in decays[:4]]
    np.testing.assert_allclose(found.up["p"][:4], expected, atol=2e-3)
    assert abs(found.up["p"][4]) < 1e-3
    assert torch.equal(objective.parameters(), before)
    assert found.cost.gradients >= 500 + 9 * 120
    assert found.residual["up"][:4].max() < 0.05
    assert np.abs(found.down["p"]).max() < 1e-3
    (jump,) = found.jumps("p")
    assert (jump.way, jump.before, jump.after) == ("up", pytest.approx(decays[3]), pytest.approx(decays[4]))
    assert jump.size == pytest.approx(-expected[-1], abs=3e-3)
    area = np.trapezoid([*expected, 0], np.log(decays)) / expected[0]
    assert found.area("p") == pytest.approx(area, rel=0.01)


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
        ([0.1, 0.2], {"steps": 0}, "steps is 0"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            scan(objective, decays, **{"lr": 0.1, "steps": 30} | options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    decayed = es.Objective(objective.model, objective.loss_fn, (torch.ones(1, 1).double(),) * 2, l2=0.1, threads=1)
    with pytest.raises(InputError, match="with l2="):
        scan(decayed, [0.1, 0.2], lr=0.1, steps=2)
    with pytest.raises(InputError, match="no order parameter 'rnak'"):
        scan(objective, [0.1, 0.2], lr=0.1, steps=2).area("rnak")
