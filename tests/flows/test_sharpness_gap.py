"""The gap formula and its terms against closed forms, and against noisy gradient descent on the scalar model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flow_problems import Point, network
from torch import Tensor

import edgescope as es
from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.flows import sharpness_gap


def noisy_valley(a: float, x: float, y: float, offsets: Tensor, scales: Tensor, **options: Any) -> es.Objective:
    """Samples L_i = c_i y x²/2 + b_i x - a y, with mean c_i = 1 and mean b_i = 0: u is along x, S = y."""
    data = torch.stack([offsets - offsets.mean(), scales / scales.mean()], 1)

    def loss_of(model: Point, batch: Tensor) -> Tensor:
        x, y = model.parts
        b, c = batch.unbind(1)
        return (0.5 * c * y * x**2 + b * x - a * y).mean()

    start = (torch.tensor(value, dtype=torch.float64) for value in (x, y))
    return es.Objective(Point(*start), loss_of, data, threads=None, **options)


def hessian_of(loss_of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.func.jacrev(torch.func.grad(loss_of))


def draw(seed: int, size: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return 0.01 * normal[0], 1 + 0.1 * normal[1]


@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_terms_of_the_scalar_model(batch_size: int) -> None:
    """α = a, β = 1, σ² = var(b) (N-B)/(NB); curvature noise lr/2 y² var(c) (N-B)/(NB)."""
    a, y, lr = 1e-3, 19.0, 0.1
    offsets, scales = draw(0)
    found = sharpness_gap(noisy_valley(a, 0.0, y, offsets, scales), lr, batch_size)
    share = (20 - batch_size) / (20 * batch_size)
    noise = share * float(offsets.var())
    assert found.alpha == pytest.approx(a, rel=1e-6)
    assert found.beta == pytest.approx(1.0, rel=1e-6)
    assert found.noise == pytest.approx(noise, rel=1e-6, abs=1e-15)
    assert found.curvature_noise == pytest.approx(
        lr / 2 * share * y**2 * float((scales / scales.mean()).var()), rel=1e-5, abs=1e-12
    )
    assert found.predicted == pytest.approx(lr * noise / (4 * a), rel=1e-6, abs=1e-15)
    assert found.measured == pytest.approx(2 / lr - y)
    assert found.points == 1
    assert set(found.errors) == {"predicted", "alpha", "beta", "noise", "curvature_noise", "measured"}
    assert all(0 <= error < 1e-6 for error in found.errors.values())


def test_the_formula_is_the_gap_of_noisy_descent() -> None:
    """x' = x - lr (y x - ξ), y' = y - lr (x²/2 - a): simulated in plain numbers, the mean of 2/lr - y."""
    a, lr, sigma, steps = 2.5e-3, 0.1, 0.2, 60_000
    noise = np.random.default_rng(0).standard_normal(steps) * sigma
    x, y, total = 0.0, 2 / lr - 0.4, 0.0
    for step in range(steps):
        x, y = x - lr * (y * x - noise[step]), y - lr * (x * x / 2 - a)
        total += 2 / lr - y if step >= steps // 6 else 0.0
    gap = total / (steps - steps // 6)
    offsets = torch.from_numpy(np.random.default_rng(1).standard_normal(40))
    offsets = (offsets - offsets.mean()) / offsets.std() * sigma / math.sqrt(39 / 40)
    found = sharpness_gap(noisy_valley(a, 0.0, 2 / lr - gap, offsets, torch.ones(40).double()), lr, 1)
    assert found.noise == pytest.approx(sigma**2)
    # E x² = lr² σ²/(1 - (1 - lr y)²), of which the formula has the term of first order in the gap.
    assert found.predicted == pytest.approx(gap, rel=0.1)
    assert found.measured == pytest.approx(gap)


def test_several_points_have_means_and_standard_errors() -> None:
    offsets, scales = draw(1)
    objective = noisy_valley(1e-3, 0.0, 19.0, offsets, scales)
    alternating = 19 + 0.5 * (-1.0) ** torch.arange(12, dtype=torch.float64)  # counts as independent
    found = sharpness_gap(objective, 0.1, 4, torch.stack([torch.zeros(12).double(), alternating], 1))
    assert found.points == 12
    assert found.measured == pytest.approx(20 - 19)
    assert found.errors["measured"] == pytest.approx(float(alternating.std()) / math.sqrt(12))
    assert found.predicted == pytest.approx(0.1 * found.beta * found.noise / (4 * found.alpha))
    assert found.errors["predicted"] < 1e-3 * found.predicted  # no term depends on y here


def test_a_series_that_drifts_has_a_larger_error() -> None:
    objective = noisy_valley(1e-3, 0.0, 19.0, *draw(1))
    drifting = torch.stack([torch.zeros(8).double(), torch.linspace(18, 19, 8).double()], 1)
    found = sharpness_gap(objective, 0.1, 4, drifting)
    assert found.errors["measured"] > 1.5 * float(drifting[:, 1].std()) / math.sqrt(8)


@pytest.mark.parametrize("seed", [0, 1])
def test_terms_of_a_network_against_automatic_differentiation(seed: int) -> None:
    objective = network(seed, l2=0.02)
    model, batch = objective.model, next(iter(objective._problem.batches))
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss_of(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        pieces = w.split([shape.numel() for shape in shapes])
        tensors = {n: piece.view(shape) for n, piece, shape in zip(names, pieces, shapes, strict=True)}
        outputs = torch.func.functional_call(model, tensors, (x,))
        return 0.5 * (outputs - y).square().sum(1).mean() + 0.01 * w.square().sum()

    w, (x, y) = objective.parameters(), batch
    H = hessian_of(loss_of)(w, x, y)
    values, vectors = torch.linalg.eigh(H)
    u = vectors[:, -1]
    slope = torch.func.grad(lambda w: u @ hessian_of(loss_of)(w, x, y) @ u)(w)
    slope = slope - u * (u @ slope)
    each = torch.stack([torch.func.grad(loss_of)(w, x[i : i + 1], y[i : i + 1]) @ u for i in range(len(x))])
    curved = [u @ hessian_of(loss_of)(w, x[i : i + 1], y[i : i + 1]) @ u for i in range(len(x))]
    found = sharpness_gap(objective, 0.1, 3, tol=1e-7)
    share = (12 - 3) / (12 * 3)
    assert found.measured == pytest.approx(20 - float(values[-1]), rel=1e-6)
    alpha = -float(torch.func.grad(loss_of)(w, x, y) @ slope)
    assert abs(found.alpha - alpha) <= max(3 * found.errors["alpha"], 1e-6 * abs(alpha))
    assert abs(found.beta - float(slope @ slope)) <= max(3 * found.errors["beta"], 1e-6 * found.beta)
    assert found.errors["beta"] < 1e-3 * found.beta
    assert found.noise == pytest.approx(share * float(each.var()), rel=1e-4)
    assert found.curvature_noise == pytest.approx(0.05 * share * float(torch.stack(curved).var()), rel=1e-3)


def test_without_progressive_sharpening_there_is_no_formula() -> None:
    found = sharpness_gap(noisy_valley(-1e-3, 0.0, 19.0, *draw(0)), 0.1, 5)
    assert math.isnan(found.predicted)
    assert found.alpha == pytest.approx(-1e-3)


def test_the_model_is_not_changed_and_the_cost_is_that_of_the_docstring() -> None:
    objective = network()
    before = copy.deepcopy(objective.model.state_dict())
    found = sharpness_gap(objective, 0.1, 4, torch.stack([objective.parameters() + 0.1, objective.parameters()]))
    torch.testing.assert_close(objective.model.state_dict(), before, rtol=0, atol=0)
    assert found.cost.losses == 2 * 3
    assert found.cost.gradients <= 2 * 3 + 4
    assert found.cost.products > 0


def batch_norm() -> es.Objective:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).double()
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return es.Objective(model, es.supervised(torch.nn.functional.mse_loss), (x, x[:, :2]))


@pytest.mark.parametrize(
    ("ask", "kind", "names"),
    [
        (lambda: sharpness_gap(network(), 0.0, 4), InputError, "lr=0"),
        (lambda: sharpness_gap(network(), 0.1, 0), InputError, "batch_size=0"),
        (lambda: sharpness_gap(network(), 0.1, 13), InputError, "at most 12"),
        (lambda: sharpness_gap(network(samples=1), 0.1, 1), InputError, "single sample"),
        (lambda: sharpness_gap(network(), 0.1, 4, torch.zeros(3)), InputError, "shape (3,)"),
        (lambda: sharpness_gap(network(), 0.1, 4, torch.zeros(0, 26)), InputError, "shape (0, 26)"),
        (lambda: sharpness_gap(network(), 0.1, 4, torch.full((26,), math.nan)), InputError, "not finite"),
        (lambda: sharpness_gap(3, 0.1, 4), InputError, "Objective"),
        (lambda: sharpness_gap(batch_norm(), 0.1, 4), NotKnownError, "batch statistics"),
    ],
)
def test_bad_input_is_one_line(ask: Callable[[], Any], kind: type[EdgescopeError], names: str) -> None:
    with pytest.raises(kind) as caught:
        ask()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
