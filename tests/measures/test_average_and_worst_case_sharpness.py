"""Average and worst-case sharpness on quadratic losses, networks, and under rescaling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from measured_models import FLOATS, TwoLayers, moment_of
from scipy.optimize import brentq
from small_problem import Problem
from torch import Tensor, nn

from edgescope.measures import MEASURES


def quadratic(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor, Tensor, Tensor]:
    """A linear model under half-MSE: its loss is exactly quadratic. With gradient, Hessian and parameters."""
    problem = Problem(seed, dtype, linear=True)
    w = problem.flat().double().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss_at(w), w)
    return problem, gradient, problem.hessian(), w.detach()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_average_sharpness_of_a_quadratic_loss_is_half_the_scaled_trace(adaptive: bool, dtype: torch.dtype) -> None:
    rho, scores = 0.1, []
    for seed in range(8):
        problem, _, hessian, w = quadratic(seed, dtype)
        scale = w.abs() if adaptive else torch.ones_like(w)
        exact = rho**2 / 2 * float((hessian.diagonal() * scale**2).sum())
        spec = f"average_sharpness:rho={rho},pairs=40,seed={seed},adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        # The slope of the loss cancels in pairs: what is left to chance is the chi-square of the quadratic form.
        assert 0 < reading.errors[""] < 0.2 * exact
        assert reading.cost.losses == 81
        scores.append((reading.values[""] - exact) / reading.errors[""])
    assert max(map(abs, scores)) < 4
    assert np.mean(np.abs(scores) < 2) >= 0.6


def highest_on_ball(hessian: Tensor, gradient: Tensor, rho: float) -> float:
    """The maximum of <g, u> + u'Hu / 2 over ||u|| <= rho, H positive: at the u = (m - H)^-1 g of that length."""
    values, vectors = torch.linalg.eigh(hessian)
    along = (vectors.T @ gradient).numpy()
    top = float(values[-1])
    values = values.numpy()
    m = brentq(lambda m: np.linalg.norm(along / (m - values)) - rho, top + 1e-12, top + np.linalg.norm(along) / rho + 1)
    u = along / (m - values)
    return float(along @ u + (values * u * u).sum() / 2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_worst_case_sharpness_of_a_quadratic_loss_is_that_of_the_trust_region(
    adaptive: bool, dtype: torch.dtype
) -> None:
    for seed, rho in itertools.product(range(3), (0.05, 1.0)):
        problem, gradient, hessian, w = quadratic(seed, dtype)
        scale = w.abs() if adaptive else torch.ones_like(w)
        exact = highest_on_ball(scale[:, None] * hessian * scale, scale * gradient, rho)
        spec = f"worst_case_sharpness:rho={rho},iterations=60,adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        assert reading.values[""] == pytest.approx(exact, rel=5e-3)
        assert reading.values[""] <= exact * (1 + 1e-5)
        assert 0 <= reading.errors[""] <= 1e-2 * exact
        assert reading.cost.gradients <= 2 * 60 + 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_worst_case_sharpness_in_a_cube_is_at_the_best_corner(adaptive: bool) -> None:
    # A convex quadratic is largest at a corner; 2^15 of them can be tried.
    for seed, rho in itertools.product(range(2), (0.01, 0.3)):
        problem, gradient, hessian, w = quadratic(seed)
        scale = w.abs() if adaptive else torch.ones_like(w)
        corners = rho * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=15)), dtype=torch.float64) * scale
        exact = float((corners @ gradient + (corners @ hessian * corners).sum(1) / 2).max())
        spec = f"worst_case_sharpness:norm=linf,rho={rho},restarts=60,adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        assert reading.values[""] == pytest.approx(exact, rel=1e-9)
        assert reading.errors[""] == pytest.approx(0, abs=1e-9)


def test_worst_case_sharpness_climbs_from_a_minimum_where_there_is_no_slope() -> None:
    # Without a residual the gradient is exactly 0, and the maximum rho^2 / 2 times the largest eigenvalue.
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    inputs = torch.randn(30, 3, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.5])
    moment = moment_of(model, (inputs, model(inputs).detach()))
    top = float(torch.linalg.eigvalsh(inputs.T @ inputs / 30)[-1])
    reading = MEASURES.build("worst_case_sharpness:adaptive=false,rho=0.1,iterations=40").take(moment)
    assert reading.values[""] == pytest.approx(0.005 * top, rel=1e-3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_worst_case_sharpness_of_a_network_is_a_rise_that_is_really_there(norm: str) -> None:
    for seed in range(3):
        problem = Problem(seed)
        rho = 0.5 if norm == "l2" else 0.1
        w, here = problem.flat(), float(problem.objective.loss())
        found = MEASURES.build(f"worst_case_sharpness:norm={norm},rho={rho},restarts=3").take(problem.moment())
        directions = torch.randn(300, len(w), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        order = 2 if norm == "l2" else float("inf")
        directions *= rho / torch.linalg.vector_norm(directions, order, dim=1, keepdim=True)
        sampled = max(float(problem.loss_at(w + w.abs() * d)) for d in directions) - here
        bound = float((problem.objective.gradient() * w).abs().sum() if norm == "linf" else 0)
        assert found.values[""] > max(sampled, bound * rho * 0.5)
        assert 0 <= found.errors[""] < 0.1 * found.values[""]


def test_rescaling_that_leaves_the_function_leaves_adaptive_sharpness_and_path_norm() -> None:
    # Dinh et al. 2017: everything that is not adaptive changes.
    data = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    plain, scaled = (moment_of(TwoLayers(factor), data) for factor in (1.0, 20.0))

    def both(spec: str) -> tuple[float, float]:
        return tuple(MEASURES.build(spec).take(moment).values[""] for moment in (plain, scaled))  # type: ignore[return-value]

    for kept in ("average_sharpness", "worst_case_sharpness", "worst_case_sharpness:norm=linf,rho=0.01", "path_norm"):
        one, other = both(kept)
        assert other == pytest.approx(one, rel=1e-6)
    for moved in ("average_sharpness:adaptive=false", "worst_case_sharpness:adaptive=false,rho=0.05"):
        one, other = both(moved)
        assert other > 5 * one
    assert both("hessian_frobenius:num_matvecs=90")[1] > 5 * both("hessian_frobenius:num_matvecs=90")[0]


def test_a_loss_that_is_not_finite_nearby_is_a_note() -> None:
    def steep(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().mean().mul(200).exp()

    torch.manual_seed(0)
    moment = moment_of(nn.Linear(3, 1), torch.randn(5, 3) * 0.1, loss_fn=steep)
    for spec in ("average_sharpness:rho=100", "worst_case_sharpness:rho=100"):
        reading = MEASURES.build(spec).take(moment)
        assert reading.values == {}
        assert "not finite within rho" in reading.note
