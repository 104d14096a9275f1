"""Steps of steepest descent against torch.optim and by hand, its state, and what it refuses."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from steepest_tensors import GEOMETRIES, SHAPES, draw, flat, give_gradients
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry import Blocks, Diagonal, Linf, Mixed, Part, Product, Scaled, Spectral
from edgescope.optim import OPTIMIZERS, SteepestDescent, rule_for
from edgescope.store import pack_state, unpack_state

# Steps.


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("normalized", [False, True])
def test_a_step_is_in_the_joint_norm(name: str, normalized: bool) -> None:
    """Two groups of one geometry are one vector: the dual norm is taken over both."""
    tensors = draw()
    geometry = SteepestDescent(tensors, lr=0.1, geometry=name)
    joint = rule_for(geometry, tensors).geometry()
    optimizer = SteepestDescent(
        [{"params": tensors[:2]}, {"params": tensors[2:]}], lr=0.1, geometry=name, normalized=normalized
    )
    before, g = flat(tensors), give_gradients(tensors, 1)
    optimizer.step()
    dual = 1.0 if normalized else float(joint.dual_norm(g))
    torch.testing.assert_close(flat(tensors), before - 0.1 * dual * joint.steepest(g), rtol=1e-12, atol=1e-13)


def test_by_hand() -> None:
    a = torch.zeros(2, 2, requires_grad=True)
    b = torch.zeros(2, requires_grad=True)
    a.grad, b.grad = torch.diag(torch.tensor([3.0, -1.0])), torch.tensor([3.0, 4.0])
    expected = {
        ("linf", False): (11 * torch.diag(torch.tensor([1.0, -1.0])), 11 * torch.ones(2)),
        ("linf", True): (torch.diag(torch.tensor([1.0, -1.0])), torch.ones(2)),
        ("blocks", False): (torch.zeros(2, 2), torch.tensor([3.0, 4.0])),
        ("spectral", False): (9 * torch.diag(torch.tensor([1.0, -1.0])), 9 * torch.tensor([0.6, 0.8])),
        ("spectral", True): (torch.diag(torch.tensor([1.0, -1.0])), torch.tensor([0.6, 0.8])),
        ("mixed", False): (11 * torch.diag(torch.tensor([1.0, -1.0])), 11 * torch.ones(2)),
    }
    for (name, normalized), moves in expected.items():
        with torch.no_grad():
            a.zero_(), b.zero_()
        SteepestDescent([a, b], lr=1.0, geometry=name, normalized=normalized).step()
        torch.testing.assert_close((-a.detach(), -b.detach()), moves)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_euclidean_descent_is_sgd(momentum: float) -> None:
    """With a learning rate a group, too; decoupled decay is shrinking beside it."""
    mine, theirs = draw(), draw()

    def groups(tensors: list[Tensor]) -> list[dict[str, Any]]:
        return [{"params": tensors[:1], "lr": 0.3}, {"params": tensors[1:]}]

    ours = SteepestDescent(groups(mine), lr=0.1, momentum=momentum, weight_decay=0.2)
    torchs = torch.optim.SGD(groups(theirs), lr=0.1, momentum=momentum)
    for step in range(6):
        give_gradients(mine, step), give_gradients(theirs, step)
        with torch.no_grad():
            for group in torchs.param_groups:
                for p in group["params"]:
                    p.mul_(1 - 0.2 * group["lr"])
        ours.step(), torchs.step()
        torch.testing.assert_close(flat(mine), flat(theirs), rtol=1e-12, atol=1e-13)


def test_diagonal_descent_is_preconditioned() -> None:
    tensors, p = draw(), torch.linspace(0.5, 3, 30, dtype=torch.float64)
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=Diagonal(p))
    before, g = flat(tensors), give_gradients(tensors, 1)
    optimizer.step()
    torch.testing.assert_close(flat(tensors), before - 0.1 * g / p, rtol=1e-12, atol=1e-13)


def test_groups_of_different_geometries_are_a_product() -> None:
    tensors = draw()
    optimizer = SteepestDescent(
        [
            {"params": [tensors[2], tensors[0]], "geometry": "spectral"},
            {"params": [tensors[1]], "geometry": Linf()},
            {"params": [tensors[3]], "geometry": "linf"},
        ],
        lr=0.1,
    )
    before, g = flat(tensors), give_gradients(tensors, 1)
    product = Product((Part(Spectral(), (2, 0)), Part(Linf(), (1, 3)))).bind(SHAPES)
    assert rule_for(optimizer, tensors).geometry() == product
    optimizer.step()
    torch.testing.assert_close(flat(tensors), before - 0.1 * product.descent(g), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["linf", "spectral", "mixed"])
def test_normalized_groups_move_by_their_own_rates(name: str) -> None:
    tensors = draw()
    optimizer = SteepestDescent(
        [{"params": tensors[:1], "lr": 0.02}, {"params": tensors[1:]}], lr=0.1, geometry=name, normalized=True
    )
    geometry = rule_for(optimizer, tensors).geometry()
    before, g = flat(tensors), give_gradients(tensors, 1)
    optimizer.step()
    rates = torch.cat([torch.full((12,), 0.02), torch.full((18,), 0.1)])
    torch.testing.assert_close(before - flat(tensors), rates * geometry.steepest(g), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("normalized", [False, True])
def test_rates_that_differ_are_steepest_descent_in_rescaled_variables(name: str, normalized: bool) -> None:
    tensors = draw()
    groups = [{"params": tensors[:1], "lr": 0.02}, {"params": tensors[1:]}]
    optimizer = SteepestDescent(groups, lr=0.1, geometry=name, normalized=normalized)
    factors = tuple(lr if normalized else math.sqrt(lr) for lr in (0.02, 0.1, 0.1, 0.1))
    scaled = Scaled(rule_for(optimizer, tensors).geometry(), factors).bind(SHAPES)
    before, g = flat(tensors), give_gradients(tensors, 1)
    optimizer.step()
    move = scaled.steepest(g) if normalized else scaled.descent(g)
    torch.testing.assert_close(before - flat(tensors), move, rtol=1e-11, atol=1e-13)


def test_parameters_without_gradient_and_frozen_ones_stay() -> None:
    tensors = draw()
    tensors[1].requires_grad_(False)
    optimizer = SteepestDescent(tensors, lr=0.1, geometry="blocks", weight_decay=1.0, momentum=0.5)
    optimizer.step()
    assert torch.equal(flat(tensors), flat(draw()))
    tensors[0].grad = torch.ones_like(tensors[0])
    optimizer.step()
    assert torch.equal(flat(tensors[1:]), flat(draw()[1:]))
    torch.testing.assert_close(tensors[0].detach(), 0.9 * draw()[0].detach() - 0.1)
    assert list(optimizer.state) == [tensors[0]]


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("normalized", [False, True])
def test_a_zero_gradient_and_a_zero_rate_move_nothing(name: str, normalized: bool) -> None:
    tensors = draw()
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=name, normalized=normalized)
    for t in tensors:
        t.grad = torch.zeros_like(t)
    optimizer.step()
    give_gradients(tensors, 0)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert torch.equal(flat(tensors), flat(draw()))


def test_closure_scheduler_and_single_precision() -> None:
    p = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = SteepestDescent([p], lr=0.5, geometry="linf", normalized=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5
    scheduler.step()
    assert optimizer.step(closure).item() == pytest.approx(0.25 + 2.25)
    assert p.tolist() == [0.25, -1.25]


def test_a_group_added_later_is_part_of_the_norm() -> None:
    tensors = draw()
    optimizer = SteepestDescent(tensors[:2], lr=0.1, geometry="linf")
    optimizer.add_param_group({"params": tensors[2:]})
    before, g = flat(tensors), give_gradients(tensors, 1)
    optimizer.step()
    torch.testing.assert_close(flat(tensors), before - 0.1 * g.abs().sum() * g.sign())


# State.


@pytest.mark.parametrize("geometry", ["spectral", Spectral(), Diagonal(torch.ones(30))])
def test_state_dict_round_trip_without_pickle(geometry: Any) -> None:
    """Through what checkpoints hold; the continued run is bit for bit the undisturbed one."""
    tensors = draw()
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=geometry, momentum=0.9, normalized=True)
    give_gradients(tensors, 0)
    optimizer.step()
    packed, meta = pack_state("optimizer", optimizer.state_dict())
    state = unpack_state("optimizer", packed, meta)

    others = [t.detach().clone().requires_grad_() for t in tensors]
    again = SteepestDescent(others, lr=1.0, geometry=geometry if not isinstance(geometry, str) else "linf")
    again.load_state_dict(copy.deepcopy(state))
    assert optimizer.param_groups[0]["geometry"] is geometry
    for seed in (1, 2):
        give_gradients(tensors, seed), give_gradients(others, seed)
        optimizer.step(), again.step()
    assert torch.equal(flat(tensors), flat(others))


def test_pickle_and_copy() -> None:
    tensors = draw()
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=Blocks(), momentum=0.9)
    give_gradients(tensors, 0)
    optimizer.step()
    for again in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        theirs = again.param_groups[0]["params"]
        give_gradients(theirs, 1)
        again.step()
        assert not torch.equal(flat(theirs), flat(tensors))


# Names and bad input.


def test_by_name() -> None:
    tensors = draw()
    optimizer = OPTIMIZERS.build("steepest:geometry=linf,normalized=true,momentum=0.5").build(tensors, lr=0.1)
    assert isinstance(optimizer, SteepestDescent)
    assert optimizer.param_groups[0]["geometry"] == "linf"
    assert optimizer.param_groups[0]["normalized"] is True
    mixed = OPTIMIZERS.build("steepest:geometry=mixed:matrices=blocks;vectors=euclidean,weight_decay=0.1").build(
        tensors, 0.1
    )
    assert rule_for(mixed, tensors).geometry() == Mixed("blocks", "euclidean").bind(SHAPES)
    assert mixed.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"lr": -0.1}, "lr=-0.1"),
        ({"lr": math.nan}, "lr=nan"),
        ({"momentum": 1.0}, "momentum=1"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
        ({"geometry": "spectrl"}, "'spectral'"),
        ({"geometry": 2}, "a geometry given as a int"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError) as caught:
        SteepestDescent(draw(), **({"lr": 0.1} | options))
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_group_is_left_out() -> None:
    tensors = draw()
    optimizer = SteepestDescent(tensors[:2], lr=0.1, geometry="linf")
    with pytest.raises(InputError, match="only some are normalized"):
        optimizer.add_param_group({"params": tensors[2:], "normalized": True})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": tensors[2:]})


def test_what_a_step_refuses() -> None:
    tensors = draw()
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=Diagonal(torch.ones(3)))
    give_gradients(tensors, 0)
    with pytest.raises(InputError, match="3 entries for tensors that hold 30"):
        optimizer.step()
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        SteepestDescent(embedding.parameters(), lr=0.1).step()
    with pytest.raises(InputError, match="'linf'"):
        OPTIMIZERS.build("steepest:geometry=lin")
