"""A model that changes after its objective was made: followed where the vector stays the same, else refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import agrees, at_once, refused
from objective_problems import labelled, relative
from torch import Tensor, nn

from edgescope.errors import ModelChangedError
from edgescope.losses import supervised
from edgescope.objective import Objective, in_mode, in_precision, mini_batches

LOSS = supervised(F.cross_entropy)
Change = Callable[[nn.Sequential], Any]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Identity()).double()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x, y = labelled(8, 4)
    return x.double(), y


def measured(model: nn.Module, **options: Any) -> Objective:
    """An objective that has kept everything there is to keep."""
    objective = Objective(model, LOSS, data(), path="kept", threads=1, **options)
    objective.loss(), objective.gradient(), objective.gnvp(torch.ones(objective.size))
    objective.hvp(torch.ones(objective.size))
    return objective


def replace_layer(model: nn.Sequential) -> None:
    model[2] = nn.Linear(5, 3).double()


def replace_weight(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.randn(5, 4).double())


def assign_state(model: nn.Sequential) -> None:
    model.load_state_dict({name: torch.randn_like(value) for name, value in model.state_dict().items()}, assign=True)


def load_state(model: nn.Sequential) -> None:
    model.load_state_dict({name: torch.randn_like(value) for name, value in model.state_dict().items()})


def by_data(model: nn.Sequential) -> None:
    model[0].weight.data = torch.randn(5, 4).double()


def step(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    LOSS(model, data()).backward()
    optimizer.step()
    optimizer.zero_grad()


def add_buffer(model: nn.Sequential) -> None:
    model[0].register_buffer("counter", torch.ones(2))


EVERYTHING = "'0.weight', '0.bias', '2.weight' and 1 more"
FOLLOWED: dict[str, tuple[Change, list[str]]] = {
    "nothing": (lambda m: None, []),
    "step": (step, []),
    "copied": (copy.deepcopy, []),
    "moved-nowhere": (lambda m: m.to("cpu"), []),
    "values-by-data": (by_data, []),
    "state-loaded": (load_state, []),
    "buffer-added": (add_buffer, []),
    "layer-replaced": (replace_layer, ["replaced: '2.weight', '2.bias'"]),
    "weight-replaced": (replace_weight, ["replaced: '0.weight'"]),
    "state-assigned": (assign_state, [f"replaced: {EVERYTHING}"]),
    "activation-replaced": (lambda m: m.__setitem__(1, nn.GELU()), []),
    "cast": (lambda m: m.float(), [f"cast: {EVERYTHING}"]),
    "cast-to-half": (lambda m: m.bfloat16(), [f"cast: {EVERYTHING}"]),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_changes_of_values_and_layers_are_followed(name: str) -> None:
    model, (change, told) = network(), FOLLOWED[name]
    objective = measured(model)
    change(model)
    assert [str(one) for one in objective.changes()] == told
    now = copy.deepcopy(model).double()
    agrees(objective, at_once(now, LOSS, data()))
    assert relative(objective.parameters(), torch.cat([p.detach().flatten() for p in now.parameters()])) == 0
    assert [id(t) for t in objective.tensors] == [id(p) for p in model.parameters()]
    w = objective.parameters() + 0.5
    if model[0].weight.dtype == torch.float64:
        objective.assign(w)
        assert torch.equal(torch.cat([p.detach().flatten() for p in model.parameters()]), w)
        agrees(objective, at_once(model, LOSS, data()))


def remove_bias(model: nn.Sequential) -> None:
    model[2].bias = None


def other_order(model: nn.Sequential) -> None:
    weight = model[0].weight
    del model[0].weight
    model[0].register_parameter("weight", weight)


REFUSED: dict[str, tuple[Change, str]] = {
    "layer-added": (lambda m: m.append(nn.Linear(3, 3).double()), "added: '4.weight', '4.bias'"),
    "layer-filled": (lambda m: m.__setitem__(3, nn.Linear(3, 3).double()), "added: '3.weight', '3.bias'"),
    "layer-removed": (lambda m: m.__setitem__(0, nn.ZeroPad1d((0, 1)).double()), "removed: '0.weight', '0.bias'"),
    "bias-removed": (remove_bias, "removed: '2.bias'"),
    "frozen": (lambda m: m[0].requires_grad_(False), "frozen: '0.weight', '0.bias'"),
    "one-frozen": (lambda m: m[2].bias.requires_grad_(False), "frozen: '2.bias'"),
    "reshaped": (lambda m: m.__setitem__(2, nn.Linear(5, 6).double()), "reshaped: '2.weight', '2.bias'"),
    "parametrised": (
        lambda m: nn.utils.parametrizations.orthogonal(m[0], orthogonal_map="cayley"),
        "removed: '0.weight'; added: '0.parametrizations.weight.original'",
    ),
    "in-another-order": (other_order, "in another order"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_parameters_are_refused_and_the_loss_is_that_of_the_model(name: str) -> None:
    model, (change, told) = network(), REFUSED[name]
    objective = measured(model)
    w = objective.parameters()
    before, losses = [slot.name for slot in objective.layout], objective.spent.losses
    change(model)
    calls: list[Callable[[], object]] = [
        objective.gradient,
        objective.parameters,
        objective.accuracy,
        objective.plan,
        lambda: objective.tensors,
        lambda: objective.loss(w),
        lambda: objective.hvp(w),
        lambda: objective.gnvp(w),
        lambda: objective.assign(w),
        lambda: objective.operator() @ w,
        lambda: list(objective.outputs()),
        lambda: next(mini_batches(objective, 4)),
        lambda: in_precision(objective, torch.float32),
        lambda: in_mode(objective, "train"),
    ]
    for call in calls:
        refused(ModelChangedError, told, "a new Objective", make=call)
    # The loss of the model as it is stays known, and leaves it as it was.
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        assert relative(objective.loss(), LOSS(model, data())) < 1e-12
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [slot.name for slot in objective.layout] == before
    assert objective.spent.losses == losses + 1
    agrees(Objective(model, LOSS, data()), at_once(model, LOSS, data()))


def test_thawed_parameters_are_refused_until_they_are_frozen_again() -> None:
    model = network()
    model[0].requires_grad_(False)
    objective = measured(model)
    live = at_once(model, LOSS, data())
    model[0].requires_grad_(True)
    refused(ModelChangedError, "thawed: '0.weight', '0.bias'", make=objective.gradient)
    assert relative(objective.loss(), live.loss) < 1e-12
    model[0].requires_grad_(False)
    assert objective.changes() == []
    agrees(objective, live)


def test_tied_and_untied() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3)).double()
    objective = measured(model)
    model[2].weight = model[0].weight
    refused(ModelChangedError, "removed: '2.weight'", make=objective.gradient)
    together = measured(model)
    model[2].weight = nn.Parameter(torch.randn(4, 4).double())
    refused(ModelChangedError, "added: '2.weight'", make=together.gradient)
    agrees(objective, at_once(model, LOSS, data()))  # as many as before, the first one's vector fits again


def test_the_loss_of_a_changed_model_has_its_batch_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3)).double()
    objective = measured(model)
    model.append(nn.Linear(3, 3).double())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    inside = copy.deepcopy(model)
    inside[2].p = 0.0
    with torch.no_grad():
        assert relative(objective.loss(), LOSS(inside.train(), data())) < 1e-12
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_what_was_not_chosen_may_change() -> None:
    model = network()
    objective = measured(model, params="2.*")
    model[0].requires_grad_(False)
    model[1] = nn.Sequential(nn.Tanh(), nn.Linear(5, 5).double())
    assert objective.changes() == []
    live = torch.autograd.grad(LOSS(model, data()), list(model[2].parameters()))
    assert relative(objective.gradient(), torch.cat([g.flatten() for g in live])) < 1e-9
    model[2] = nn.Linear(5, 3).double()
    assert [str(change) for change in objective.changes()] == ["replaced: '2.weight', '2.bias'"]
    live = torch.autograd.grad(LOSS(model, data()), list(model[2].parameters()))
    assert relative(objective.gradient(), torch.cat([g.flatten() for g in live])) < 1e-9


def test_patterns_choose_later_parameters_too() -> None:
    model = network()
    by_pattern, by_module = (measured(model, params=params) for params in ("*.weight", [model[0], model[2]]))
    model.append(nn.Linear(3, 3).double())
    refused(ModelChangedError, "added: '4.weight'", make=by_pattern.gradient)
    assert by_module.gradient().isfinite().all()


def test_a_penalty_needs_the_vector() -> None:
    """With the l2 term there is no loss without the parameters that it is of."""
    model = network()
    objective = measured(model, l2=0.1)
    model.append(nn.Linear(3, 3).double())
    refused(ModelChangedError, "added", make=objective.loss)
