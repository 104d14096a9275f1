"""What a central flow leaves alone, continues from, and refuses."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from closed_forms import DRIVE, Network, valley
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError, NotKnownError


def trained(optimizer: torch.optim.Optimizer, model: Network, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        es.losses.half_mse(model(model.data[0]), model.data[1]).backward()
        optimizer.step()


def at_edge(model: Network, objective: es.Objective) -> float:
    """The learning rate at which the network is just below its threshold."""
    return 1.999 / float(es.top_eigenpairs(objective).values[0])


def test_model_and_optimizer_stay_as_they_are() -> None:
    model = Network()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4)
    trained(optimizer, model)
    before, kept = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    slopes, random = [p.grad.clone() for p in model.parameters()], torch.get_rng_state()
    flow = es.CentralFlow(model.objective(), optimizer)
    flow.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, slope) for p, slope in zip(model.parameters(), slopes, strict=True))
    assert torch.equal(random, torch.get_rng_state())
    after = optimizer.state_dict()
    assert after["param_groups"] == kept["param_groups"]
    for number, state in kept["state"].items():
        assert all(torch.equal(value, after["state"][number][name]) for name, value in state.items())


@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "scalar"])
def test_resumed_to_the_bit(kind: str) -> None:
    def made(model: Network) -> es.CentralFlow:
        objective = model.objective()
        if kind == "sgd":
            optimizer = torch.optim.SGD(model.parameters(), lr=at_edge(model, objective))
        elif kind == "rmsprop":
            optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-5)
        else:
            optimizer = es.optim.ScalarRMSProp(model.parameters(), lr=1e-3)
        if kind != "sgd":
            start = copy.deepcopy(model.state_dict())
            trained(optimizer, model)
            model.load_state_dict(start)
        return es.CentralFlow(objective, optimizer)

    flow = made(Network().sharpened())
    flow.step()
    state = copy.deepcopy(flow.state())
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    wanted = [flow.step() for _ in range(2)]
    other = made(Network().sharpened())
    other.load_state(state)
    for step in wanted:
        again = other.step()
        for name in ("time", "loss", "predicted_loss", "predicted_gradient_square"):
            assert getattr(again, name) == getattr(step, name)
        for name in ("values", "covariance", "basis"):
            assert torch.equal(getattr(again, name), getattr(step, name))
    assert torch.equal(other.weights, flow.weights)
    if kind == "sgd":
        assert wanted[-1].covariance.numel()


def test_state_of_something_else_is_refused() -> None:
    objective = valley(0.0, 1.0, DRIVE)
    flow = es.CentralFlow(objective, torch.optim.SGD(objective.model.parameters(), lr=0.1))
    with pytest.raises(InputError, match="a result of state"):
        flow.load_state([])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not whole"):
        flow.load_state({"weights": torch.zeros(2)})
    model = Network()
    other = es.CentralFlow(model.objective(), torch.optim.SGD(model.parameters(), lr=1e-3))
    with pytest.raises(InputError, match="another objective or optimizer"):
        flow.load_state(other.state())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.Adam(p), "the averaged dynamics of Adam"),
        (lambda p: torch.optim.RMSprop(p, momentum=0.9), "the averaged dynamics of RMSprop"),
        (lambda p: torch.optim.RMSprop(p, centered=True), "the averaged dynamics of RMSprop"),
        (lambda p: torch.optim.SGD(p, maximize=True, lr=0.1), "maximize=True"),
        (lambda p: es.optim.Langevin(p, lr=0.1, temperature=1e-3), "its steps are random"),
        (lambda p: es.optim.SteepestDescent(p, lr=0.1), "the averaged dynamics of SteepestDescent"),
        (lambda p: es.optim.SAM(p, torch.optim.SGD, lr=0.1, rho=0.1), "SAM"),
        (lambda p: torch.optim.RMSprop(p), "before its first step"),
        (lambda p: [torch.optim.SGD(p[:2], lr=0.1), torch.optim.SGD(p[2:], lr=0.1)], "several optimizers"),
        (lambda p: torch.optim.SGD(p[:2], lr=0.1), "only some of the parameters"),
    ],
)
def test_optimizers_without_a_known_flow(make, message: str) -> None:  # type: ignore[no-untyped-def]
    model = Network()
    with pytest.raises(NotKnownError, match=message) as caught:
        es.CentralFlow(model.objective(), make(list(model.parameters())))
    assert "\n" not in str(caught.value)


def test_muon_has_no_known_flow() -> None:
    model = nn.Linear(3, 2, bias=False)
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (torch.randn(5, 3), torch.randn(5, 2)))
    with pytest.raises(NotKnownError, match="the averaged dynamics of Muon"):
        es.CentralFlow(objective, torch.optim.Muon(model.parameters()))


@pytest.mark.parametrize(
    ("options", "momentum", "message"),
    [
        ({"substeps": 0}, 0.0, "substeps"),
        ({"substeps": 1}, 0.0, "substeps=1 with the correction; expected at least 2"),
        ({"substeps": 2}, 0.5, "substeps=2 with this momentum; expected at least 3; try substeps=6"),
        ({"band": 0.0}, 0.0, "band"),
        ({"most": 0}, 0.0, "most"),
        ({"correction": 1}, 0.0, "correction"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, object], momentum: float, message: str) -> None:
    objective = valley(0.0, 1.0, DRIVE)
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1, momentum=momentum)
    with pytest.raises(InputError, match=message):
        es.CentralFlow(objective, optimizer, **options)  # type: ignore[arg-type]


def test_starts_above_the_threshold_are_refused() -> None:
    objective = valley(0.0, 25.0, DRIVE)
    with pytest.raises(InputError, match=r"the sharpness is 1\.25 of the threshold where the flow starts"):
        es.CentralFlow(objective, torch.optim.SGD(objective.model.parameters(), lr=0.1))


def test_constant_curvature_has_no_self_stabilization() -> None:
    """The threshold falls below a curvature that nothing changes: a quadratic, and a learning rate just too large."""
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.eye(2).double() * math.sqrt(2)
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, torch.zeros(2, 1).double()), threads=1)
    with pytest.raises(InputError, match="no self-stabilization"):
        es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=2.001))


def test_more_critical_directions_than_allowed() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.eye(2).double() * math.sqrt(2)
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, torch.zeros(2, 1).double()), threads=1)
    with pytest.raises(InputError, match="more than 1 directions are critical"):
        es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=1.999), most=1)


def test_dropout_and_what_is_no_objective() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (torch.randn(5, 3), torch.randn(5, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match=r"trains with dropout .* in '1'"):
        es.CentralFlow(objective, optimizer)
    with pytest.raises(InputError, match="an Objective on all training data"):
        es.CentralFlow(model, optimizer)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the flow of mini-batches is not known"):
        es.CentralFlow(es.objective.mini_batches(objective, 2), optimizer)  # type: ignore[arg-type]


def test_kinks_give_a_warning() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    data = torch.randn(8, 3).double(), torch.randn(8, 2).double()
    objective = es.Objective(model, es.supervised(es.losses.half_mse), data, threads=1)
    with pytest.warns(EdgescopeWarning, match="'relu' jumps"):
        es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=1e-3)).step()


def test_cost_of_a_step() -> None:
    """Below the threshold a substep is a gradient, a product for the sharpness and one for the correction."""
    model = Network()
    objective = model.objective()
    flow = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=1e-3))
    flow.step()
    costs = [flow.step().cost for _ in range(5)]
    assert all(cost.gradients == 2 for cost in costs)
    assert sum(cost.products for cost in costs) <= 6 * 5

    model = Network().sharpened()
    objective = model.objective()
    edge = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=at_edge(model, objective)))
    edge.step()
    for _ in range(3):
        step = edge.step()
        k = step.covariance.shape[0]
        assert k
        assert step.cost.gradients == 2 * (1 + k * (k + 1))
        assert step.cost.products <= 2 * (4 * (k + 1) + 1)
