"""The stable flow against closed forms, its time steps past the threshold; resuming; what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flow_problems import network, quadratic
from scipy.integrate import solve_ivp

import edgescope as es
from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.flows import StableFlow
from edgescope.optim import SteepestDescent

RATES = torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)


def diagonal(lr: float, **options: Any) -> tuple[es.Objective, torch.optim.Optimizer]:
    objective = quadratic(torch.diag(RATES), torch.ones(3, dtype=torch.float64))
    return objective, torch.optim.SGD(objective.tensors, lr=lr, **options)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_on_a_quadratic_it_is_a_product_of_euler_steps(decay: float) -> None:
    objective, optimizer = diagonal(0.1, weight_decay=decay)
    flow = StableFlow(objective, optimizer, 5)
    for number in range(3):
        step = flow.step()
        factor = (1 - 0.1 * (RATES + decay) / 5) ** (5 * (number + 1))
        torch.testing.assert_close(flow.weights, factor, rtol=1e-12, atol=0)
        assert step.loss == pytest.approx(float((RATES * factor**2).sum()) / 2)
        assert (step.time, step.substeps) == (number + 1, 5)
        assert step.sharpness == pytest.approx((5 + decay) * 0.1 / 2)


@pytest.mark.parametrize(("lr", "substeps"), [(0.1, 4), (1.0, 10), (4.0, 40)])
def test_past_the_threshold_it_takes_more_substeps_and_stays_stable(lr: float, substeps: int) -> None:
    """dt is at most half of 1/(ηλ): every mode decreases without changing its sign."""
    objective, optimizer = diagonal(lr)
    flow = StableFlow(objective, optimizer)
    for _ in range(3):
        assert flow.step().substeps == substeps
    assert bool((flow.weights >= 0).all() & (flow.weights < 1).all())


def test_in_a_diagonal_geometry_it_is_preconditioned() -> None:
    objective, _ = diagonal(0.1)
    p = torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)
    flow = StableFlow(objective, SteepestDescent(objective.tensors, lr=0.1, geometry=es.geometry.Diagonal(p)), 8)
    step = flow.step()
    torch.testing.assert_close(flow.weights, torch.full((3,), (1 - 0.1 / 8) ** 8, dtype=torch.float64))
    assert step.sharpness == pytest.approx(0.1 / 2)


def test_sign_descent_moves_by_the_learning_rate_and_then_chatters() -> None:
    objective, _ = diagonal(0.1)
    flow = StableFlow(objective, SteepestDescent(objective.tensors, lr=0.1, geometry="linf", normalized=True), 3)
    for number in range(9):
        step = flow.step()
        expected = torch.full((3,), 1 - 0.1 * (number + 1), dtype=torch.float64)
        torch.testing.assert_close(flow.weights, expected, rtol=1e-9, atol=1e-12)
        assert (step.substeps, step.sharpness) == (3, None)
        assert (step.cost.gradients, step.cost.losses, step.cost.products) == (3, 1, 0)
    for _ in range(4):
        flow.step()
        assert float(flow.weights.abs().max()) <= 0.1 / 3 + 1e-9


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_second_moments_follow_the_squares_of_the_flow(alpha: float) -> None:
    """RMSProp on a quadratic, integrated by SciPy: w' = -η h w/(√ν + ε), ν' = (1 - α)/α ((h w)² - ν)."""
    objective, _ = diagonal(0.1)
    optimizer = torch.optim.RMSprop(objective.tensors, lr=0.02, alpha=alpha, eps=1e-3)
    nu = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    optimizer.state[objective.tensors[0]] = {"step": torch.tensor(5.0), "square_avg": nu.clone()}
    before = copy.deepcopy(optimizer.state_dict())
    flow = StableFlow(objective, optimizer, 40)
    steps = [flow.step() for _ in range(3)]
    h = RATES.numpy()

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        w, nu = state[:3], state[3:]
        return np.concatenate([-0.02 * h * w / (np.sqrt(nu) + 1e-3), (1 - alpha) / alpha * ((h * w) ** 2 - nu)])

    exact = solve_ivp(slope, (0, 3), np.concatenate([np.ones(3), nu.numpy()]), rtol=1e-9, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(flow.weights.numpy(), exact[:3], rtol=3e-3)
    np.testing.assert_allclose(flow.slow_state["square_avg"].numpy(), exact[3:], rtol=3e-3)
    assert steps[0].sharpness == pytest.approx(0.02 / 2 * max(h / (nu.sqrt().numpy() + 1e-3)))
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


def test_momentum_is_the_rate_of_settled_buffers() -> None:
    """At the threshold (1 + β)/(1 - β) times as many substeps, since the flow is as much faster; decay is coupled."""
    objective, optimizer = diagonal(0.1, momentum=0.5, weight_decay=0.3)
    flow = StableFlow(objective, optimizer, 8)
    step = flow.step()
    torch.testing.assert_close(flow.weights, (1 - 0.2 * (RATES + 0.3) / 8) ** 8, rtol=1e-12, atol=0)
    assert step.sharpness == pytest.approx((5 + 0.3) * 0.1 / 3)
    objective, optimizer = diagonal(0.6, momentum=0.5)
    assert StableFlow(objective, optimizer).step().substeps == 12


def test_it_starts_where_it_is_told_to() -> None:
    objective, optimizer = diagonal(0.1)
    start = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    flow = StableFlow(objective, optimizer, 4, start=start)
    assert torch.equal(flow.weights, start)
    flow.step()
    torch.testing.assert_close(flow.weights, start * (1 - 0.1 * RATES / 4) ** 4, rtol=1e-12, atol=0)


def resumable(name: str) -> StableFlow:
    objective = network()
    if name == "rmsprop":
        optimizer = torch.optim.RMSprop(objective.tensors, lr=0.05, alpha=0.9)
        for _ in range(3):
            for tensor, piece in zip(objective.tensors, objective.layout.split(objective.gradient()), strict=True):
                tensor.grad = piece.clone()
            optimizer.step()
        return StableFlow(objective, optimizer, 3)
    return StableFlow(objective, SteepestDescent(objective.tensors, lr=0.5, geometry=name), 3)


@pytest.mark.parametrize("name", ["euclidean", "spectral", "rmsprop"])
def test_resumed_it_continues_bit_for_bit(name: str) -> None:
    flows = [resumable(name) for _ in range(2)]
    for _ in range(3):
        flows[0].step()
    flows[1].load_state(flows[0].state())
    for _ in range(3):
        one, two = (flow.step() for flow in flows)
        assert (one.time, one.loss, one.substeps, one.sharpness) == (two.time, two.loss, two.substeps, two.sharpness)
    assert torch.equal(flows[0].weights, flows[1].weights)
    assert all(torch.equal(flows[0].slow_state[k], v) for k, v in flows[1].slow_state.items())


def test_model_and_optimizer_are_not_changed() -> None:
    objective = network()
    optimizer = torch.optim.SGD(objective.tensors, lr=0.5)
    before = copy.deepcopy((objective.model.state_dict(), optimizer.state_dict()))
    random = torch.get_rng_state()
    StableFlow(objective, optimizer).step()
    torch.testing.assert_close(objective.model.state_dict(), before[0], rtol=0, atol=0)
    assert optimizer.state_dict() == before[1]
    assert torch.equal(random, torch.get_rng_state())
    assert all(tensor.grad is None for tensor in objective.tensors)


def test_a_flow_that_diverges_says_so_and_stays_where_it_was() -> None:
    objective = network()
    flow = StableFlow(objective, SteepestDescent(objective.tensors, lr=1e18, geometry="linf"), 40)
    with pytest.raises(EdgescopeError, match="diverged between the times 0 and 1"):
        flow.step()
    assert torch.equal(flow.weights, objective.parameters())
    assert flow.time == 0


def asked(**options: Any) -> Callable[[], Any]:
    def ask() -> None:
        objective = network()
        StableFlow(objective, options.pop("optimizer", torch.optim.SGD)(objective.tensors, lr=0.1), **options)

    return ask


def stiff() -> None:
    objective, optimizer = diagonal(1e6)
    StableFlow(objective, optimizer).step()


@pytest.mark.parametrize(
    ("ask", "kind", "names"),
    [
        (asked(optimizer=torch.optim.Adam), NotKnownError, "Adam"),
        (asked(substeps=0), InputError, "substeps=0"),
        (asked(start=torch.zeros(2)), InputError, "shape (2,)"),
        (asked(start="here"), InputError, "start given as a value of type str"),
        (lambda: StableFlow(3, torch.optim.SGD([torch.ones(1)], lr=0.1)), InputError, "expected an Objective"),
        (lambda: StableFlow(*diagonal(0.1)).load_state({}), InputError, "without 'weights'"),
        (stiff, EdgescopeError, "substeps at the time 0"),
    ],
)
def test_bad_input_is_one_line(ask: Callable[[], Any], kind: type[EdgescopeError], names: str) -> None:
    with pytest.raises(kind) as caught:
        ask()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
