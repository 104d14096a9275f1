"""Gradient flow against the matrix exponential and SciPy; order, stability, rejected steps, saving and loading."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flat_objective import FlatObjective, Quadratic, tanh_network
from scipy.integrate import solve_ivp
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError
from edgescope.optim import GradientFlow


def closure_of(objective: FlatObjective) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        objective.write_gradients()
        return objective.loss()

    return closure


def matrix(seed: int, size: int = 4) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / size


def linear(H: Tensor, dtype: torch.dtype = torch.float64) -> tuple[FlatObjective, Tensor]:
    w = torch.linspace(1, 2, len(H), dtype=torch.float64).to(dtype).requires_grad_()
    return Quadratic(H.to(dtype), [w]), w.detach().clone()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "rtol", "near"), [(torch.float64, 1e-7, 1e-5), (torch.float32, 1e-4, 3e-4)])
def test_linear_flow_is_the_matrix_exponential(seed: int, dtype: torch.dtype, rtol: float, near: float) -> None:
    H = matrix(seed)
    objective, start = linear(H, dtype)
    flow = GradientFlow(objective.tensors, max_step=0.5, rtol=rtol, atol=rtol * 1e-2)
    while flow.time < 3:
        before = float(objective.loss())
        assert flow.step(closure_of(objective)) == pytest.approx(before, rel=1e-6)
    exact = torch.linalg.matrix_exp(-flow.time * H) @ start.double()
    torch.testing.assert_close(objective.parameters().double(), exact, rtol=near, atol=near)
    torch.testing.assert_close(objective.tensors[0].grad, objective.gradient())


@pytest.mark.parametrize("seed", [0, 1])
def test_network_against_scipy(seed: int) -> None:
    objective = tanh_network(seed)
    start = objective.parameters()
    flow = GradientFlow(objective.tensors, max_step=0.5, rtol=1e-6, atol=1e-9)
    while flow.time < 2:
        flow.step(closure_of(objective))

    def slope(_: float, w: np.ndarray) -> np.ndarray:
        return -objective.gradient(torch.from_numpy(w)).numpy()

    reference = solve_ivp(slope, (0, flow.time), start.numpy(), method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    distance = float((objective.parameters() - torch.from_numpy(reference)).norm())
    assert distance < 1e-4
    assert float((start - torch.from_numpy(reference)).norm()) > 0.5


def test_third_order() -> None:
    """Fixed steps (no error control to speak of): halving them divides the error by eight."""
    errors = []
    for steps in (32, 64, 128):
        objective, start = linear(matrix(0))
        flow = GradientFlow(objective.tensors, max_step=1 / steps, rtol=1e9, atol=1e9)
        for _ in range(steps):
            flow.step(closure_of(objective))
        assert flow.time == pytest.approx(1)
        errors.append(float((objective.parameters() - torch.linalg.matrix_exp(-matrix(0)) @ start).norm()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(2.9 < order < 3.1 for order in orders)


@pytest.mark.parametrize(("safety", "stable"), [(1.0, True), (2.4, True), (None, False)])
def test_the_sharpness_bounds_the_step(safety: float | None, stable: bool) -> None:
    H = torch.diag(torch.tensor([1000.0, 1.0], dtype=torch.float64))
    objective, _ = linear(H)
    flow = GradientFlow(objective.tensors, max_step=0.003, rtol=1e9, atol=1e9, safety=safety or 1.0)
    if safety:
        flow.sharpness = lambda: 1000.0
    for _ in range(60):
        flow.step(closure_of(objective))
    assert (abs(float(objective.parameters()[0])) < 1e-2) is stable
    assert flow.last_step == pytest.approx((safety or 3) / 1000)
    assert flow.time == pytest.approx(60 * flow.last_step)


def test_no_bound_where_there_is_no_positive_sharpness() -> None:
    for value in (None, 0.0, -5.0):
        objective, _ = linear(matrix(0))
        flow = GradientFlow(objective.tensors, max_step=0.01, sharpness=lambda value=value: value)
        flow.step(closure_of(objective))
        assert flow.last_step == 0.01


def test_error_control_keeps_a_stiff_flow_stable_and_a_rejected_trial_leaves_no_trace() -> None:
    H = torch.diag(torch.tensor([100.0, 1.0], dtype=torch.float64))
    objective, start = linear(H)
    flow = GradientFlow(objective.tensors, max_step=10.0, rtol=1e-4, atol=1e-6)
    flow.step(closure_of(objective))
    assert flow.evaluations > 4  # some trials were rejected
    fresh, _ = linear(H)
    same = GradientFlow(fresh.tensors, max_step=flow.last_step, rtol=1e9, atol=1e9)
    same.step(closure_of(fresh))
    assert torch.equal(objective.parameters(), fresh.parameters())
    assert same.evaluations == 4
    while flow.time < 1:
        flow.step(closure_of(objective))
    torch.testing.assert_close(
        objective.parameters(), torch.linalg.matrix_exp(-flow.time * H) @ start, rtol=1e-3, atol=1e-3
    )


def test_a_trial_that_overflows_is_rejected() -> None:
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    objective = FlatObjective(lambda w: (w**4).sum().exp(), [w])
    flow = GradientFlow([w], max_step=1.0)
    flow.step(closure_of(objective))
    assert math.isfinite(w.item())
    assert 0 < flow.last_step < 1e-3


def test_three_evaluations_a_step() -> None:
    objective, _ = linear(matrix(1))
    flow = GradientFlow(objective.tensors, max_step=0.01)
    for _ in range(5):
        flow.step(closure_of(objective))
    assert flow.evaluations == 1 + 3 * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded_it_continues_bit_for_bit(dtype: torch.dtype) -> None:
    objective = tanh_network(0, dtype)
    flow = GradientFlow(objective.tensors, max_step=0.3, rtol=1e-5)
    for _ in range(6):
        flow.step(closure_of(objective))
    saved = copy.deepcopy(flow.state_dict())
    again = tanh_network(0, dtype)
    with torch.no_grad():
        for t, source in zip(again.tensors, objective.tensors, strict=True):
            t.copy_(source)
    resumed = GradientFlow(again.tensors, max_step=99.0)
    resumed.load_state_dict(saved)
    for _ in range(6):
        assert flow.step(closure_of(objective)) == resumed.step(closure_of(again))
    assert torch.equal(objective.parameters(), again.parameters())
    assert (flow.time, flow.last_step, flow.evaluations) == (resumed.time, resumed.last_step, resumed.evaluations)


def test_parameters_changed_from_outside_get_a_fresh_gradient() -> None:
    H = matrix(2)
    objective, start = linear(H)
    flow = GradientFlow(objective.tensors, max_step=0.01)
    flow.step(closure_of(objective))
    with torch.no_grad():
        objective.tensors[0].copy_(-start)
    flow.step(closure_of(objective))
    torch.testing.assert_close(objective.parameters(), -torch.linalg.matrix_exp(-0.01 * H) @ start, rtol=1e-6, atol=0)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_closure_that_fails_leaves_the_parameters_as_they_were(at: int) -> None:
    objective, start = linear(matrix(0))
    calls = 0

    def failing() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return closure_of(objective)()

    flow = GradientFlow(objective.tensors, max_step=0.1)
    with pytest.raises(KeyboardInterrupt):
        flow.step(failing)
    assert torch.equal(objective.parameters(), start)
    assert flow.time == 0
    flow.step(failing)
    assert flow.time == pytest.approx(0.1)


def test_tensors_without_a_gradient_stay() -> None:
    objective, _ = linear(matrix(0))
    idle = torch.ones(3, dtype=torch.float64, requires_grad=True)
    flow = GradientFlow([*objective.tensors, idle], max_step=0.1)
    flow.step(closure_of(objective))
    assert torch.equal(idle.detach(), torch.ones(3, dtype=torch.float64))


def noisy(objective: FlatObjective) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        objective.write_gradients()
        objective.tensors[0].grad += 1e6 * torch.randn(4, dtype=torch.float64)
        return objective.loss()

    return closure


def steps(max_step: float = 1.0, closure: Any = None, **options: Any) -> Callable[[], Any]:
    def ask() -> None:
        torch.manual_seed(0)
        objective, _ = linear(matrix(0))
        GradientFlow(objective.tensors, max_step=max_step, **options).step(closure and closure(objective))

    return ask


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (steps(max_step=0.0), "max_step=0"),
        (steps(max_step=math.inf), "max_step=inf"),
        (steps(rtol=-1.0), "rtol=-1"),
        (steps(safety=math.nan), "safety=nan"),
        (steps(safety=3.0), "safety=3"),
        (steps(), "needs a closure"),
        (steps(closure=lambda objective: lambda: math.nan), "not finite"),
        (steps(closure=closure_of, sharpness=lambda: math.inf), "sharpness of inf"),
        (steps(closure=noisy, rtol=1e-9, atol=1e-9), "no step that meets its tolerance"),
        (lambda: GradientFlow([{"params": [torch.ones(1)]}, {"params": [torch.zeros(1)]}]), "2 parameter groups"),
    ],
)
def test_bad_input_is_one_line(ask: Callable[[], Any], names: str) -> None:
    with pytest.raises(EdgescopeError) as caught:
        ask()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError) or "tolerance" in names
