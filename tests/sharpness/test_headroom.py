"""Headroom: quadratics in closed form, roots by SciPy, and every way in which there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from edge_net import digits, full_batch_steps, network, objective_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor
from torch.func import grad

import edgescope as es
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.sharpness.rise import first_rise

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


class Function:
    """A loss given as a function, which counts its evaluations."""

    def __init__(self, loss_of: Callable[[Tensor], Tensor]) -> None:
        self.loss_of, self.cost = loss_of, Cost()

    def loss(self, w: Tensor) -> Tensor:
        self.cost += Cost(losses=1)
        return self.loss_of(w)

    def gradient(self, w: Tensor) -> Tensor:
        self.cost += Cost(gradients=1)
        return grad(self.loss_of)(w)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape or (6,), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quadratic(seed: int) -> tuple[Tensor, Function, Tensor, Tensor]:
    A = draw(seed, 6, 6)
    H, w = A @ A.T + 0.1 * torch.eye(6, dtype=torch.float64), draw(seed + 10)
    function = Function(lambda w: 0.5 * w @ H @ w + 3)
    step = -(H @ w) / torch.linalg.eigvalsh(H)[-1] + 0.01 * draw(seed + 20)
    return H, function, w, step


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_quadratic_in_closed_form(seed: int, scale: float) -> None:
    """s* = -2 g·d / d·Hd, from four losses and a gradient at most."""
    H, function, w, step = quadratic(seed)
    step = scale * step
    exact = float(-2 * (H @ w) @ step / (step @ H @ step))
    found = es.headroom(function, w, step)
    assert found.cost == function.cost
    if exact > 64:
        assert math.isinf(found.value)
        assert found.ratio == 0
        assert found.ratio_error == 1 / 64
    else:
        assert found.value == pytest.approx(exact, rel=1e-8)
        assert found.low * (1 - 1e-12) <= exact <= found.high * (1 + 1e-12)
        assert found.high - found.low <= found.high / 16 * (1 + 1e-9)
        assert found.slope == pytest.approx(float(-(H @ w) @ step), rel=1e-6)
        assert found.ratio == pytest.approx(1 / exact)
        assert abs(found.value - exact) <= found.error < exact / 10
    assert found.used == pytest.approx(1 / exact, rel=1e-6)
    assert found.descent == pytest.approx(float(-(H @ w) @ step))
    assert function.cost.gradients == 1
    assert function.cost.losses <= 5  # with the one at the start


def test_at_the_period_of_two_it_is_1_whatever_the_optimizer() -> None:
    """On the mode that alternates the step is -2w, with any momentum, preconditioner and decay."""
    h, w = torch.tensor([7.0], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    found = es.headroom(Function(lambda w: 0.5 * (h * w * w).sum()), w, -2 * w)
    assert found.value == pytest.approx(1, rel=1e-12)
    assert found.used == pytest.approx(1, rel=1e-12)


def test_what_is_given_is_not_computed_again() -> None:
    _, function, w, step = quadratic(0)
    whole = es.headroom(function, w, step)
    given = {"loss_w": whole.losses[0][1], "gradient_w": function.gradient(w), "loss_next": function.loss(w + step)}
    function.cost = Cost()
    again = es.headroom(function, w, step, **given)  # type: ignore[arg-type]
    assert (again.value, again.used) == (whole.value, whole.used)
    assert again.cost == function.cost == Cost(losses=whole.cost.losses - 2)
    assert again.losses == whole.losses


@given(
    slope=st.floats(0.01, 100),
    second=st.floats(-3, 3),
    third=st.floats(-1, 1),
    fourth=st.floats(0.001, 1),
    stretch=st.floats(0.05, 40),
)
def test_the_bracket_holds_a_root_of_any_quartic(
    slope: float, second: float, third: float, fourth: float, stretch: float
) -> None:
    def value(s: float) -> float:
        x = s / stretch
        return -slope * x + second * x**2 + third * x**3 + fourth * x**4

    found = first_rise(value, 0.0, -slope / stretch, 0.0, value(1.0))
    assert len(found.losses) <= 25
    if math.isinf(found.high):
        assert found.low == 64
        assert value(64.0) <= 0
        return
    assert value(found.high) > 0 >= value(found.low)
    assert found.high - found.low <= found.high / 16 * (1 + 1e-9)
    root = brentq(lambda s: value(s) / s, found.low or 1e-12, found.high)
    assert found.low <= root <= found.high
    assert abs(found.root - root) <= found.high - found.low


def test_a_step_that_goes_uphill_has_no_headroom() -> None:
    _, function, w, step = quadratic(1)
    found = es.headroom(function, w, -step)
    assert math.isnan(found.value)
    assert math.isnan(found.ratio)
    assert math.isnan(found.used)
    assert "uphill on the measured data" in found.note
    assert function.cost == found.cost == Cost(losses=1, gradients=1)


@pytest.mark.parametrize("curvature", [0.0, -1.0])
def test_no_rise_ends_after_four_losses(curvature: float) -> None:
    function = Function(lambda w: curvature * (w * w).sum() - w.sum())
    found = es.headroom(function, torch.zeros(3).double(), torch.full((3,), 0.1).double())
    assert (found.value, found.low, found.high) == (math.inf, 64.0, math.inf)
    assert (found.ratio, found.ratio_error) == (0.0, 1 / 64)
    assert "does not rise up to 64 times the step" in found.note
    assert function.cost.losses <= 5


def test_a_loss_that_is_not_a_number_is_a_rise() -> None:
    """Beyond s = 2.5 the loss is NaN, and before that it falls."""
    w, step = torch.zeros(1).double(), torch.ones(1).double()
    found = es.headroom(Function(lambda w: (-w + 0 * (2.5 - w).log()).sum()), w, step)
    assert found.low <= 2.5 <= found.high
    assert found.value == pytest.approx(2.5, rel=1 / 16)
    assert abs(found.value - 2.5) <= found.error
    inside = es.headroom(Function(lambda w: (-w + 0 * (0.1 - w).log()).sum()), w, step)  # NaN at the end of the step
    assert inside.value == pytest.approx(0.1, rel=1 / 16)
    assert math.isnan(inside.used)


def test_a_step_far_too_long_is_found_too() -> None:
    found = es.headroom(Function(lambda w: (-w + 0.5e6 * w * w).sum()), torch.zeros(1).double(), torch.ones(1).double())
    assert found.value == pytest.approx(2e-6, rel=1e-6)
    wall = es.headroom(Function(lambda w: (-w + w**12 * 1e30).sum()), torch.zeros(1).double(), torch.ones(1).double())
    assert wall.value == pytest.approx(1e-30 ** (1 / 11), rel=1 / 16)


def test_a_start_replaces_a_parabola_that_says_little() -> None:
    """Quartic, s* = 20: the parabola through the step puts the root far beyond."""
    w, step = torch.zeros(1).double(), torch.ones(1).double()

    def losses(start: float | None) -> int:
        found = es.headroom(Function(lambda w: (-w + w**4 / 8000).sum()), w, step, start=start)
        assert found.value == pytest.approx(20, rel=1 / 16)
        return found.cost.losses

    assert losses(20.2) < losses(None)
    assert losses(20.2) <= 5


def net(dtype: torch.dtype) -> tuple[es.Objective, Tensor, Tensor]:
    """A network at the edge, float64 or float32, and its step."""
    model, data = network(), digits(random_labels=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _, before, gradient in full_batch_steps(model, data, lambda _: optimizer.step(), 1000):
        w, g = before, gradient
    objective = objective_of(model.to(dtype), (data[0].to(dtype), data[1]))
    return objective, w.to(dtype), (-0.2 * g).to(dtype)


def test_float32_agrees_with_float64_at_any_learning_rate_or_says_that_it_cannot() -> None:
    exact, w, step = net(torch.float64)
    coarse = net(torch.float32)[0]
    for factor in (1.0, 0.1, 0.03):
        truth = es.headroom(exact, w, factor * step)
        found = es.headroom(coarse, w.float(), (factor * step).float())
        assert found.value == pytest.approx(truth.value, rel=1 / 512 + 2 * found.error / 16)
        assert abs(found.value - truth.value) <= found.error
    tiny = es.headroom(coarse, w.float(), (1e-7 * step).float())
    assert math.isnan(tiny.value)
    assert "lost in the rounding of float32; try dtype=torch.float64" in tiny.note


def test_near_a_stationary_point_rounding_is_refused() -> None:
    H = torch.diag(torch.tensor([1.0, 5.0]))
    w = torch.tensor([1e-4, 2e-4])
    function = Function(lambda w: 1 + 0.5 * w @ H @ w)
    found = es.headroom(function, w, -0.1 * H @ w)
    assert math.isnan(found.value)
    assert "rounding of float32" in found.note
    double = es.headroom(Function(lambda w: 1 + 0.5 * w @ H.double() @ w), w.double(), (-0.1 * H @ w).double())
    g, d = (H @ w).double(), (-0.1 * H @ w).double()
    assert double.value == pytest.approx(float(-2 * g @ d / (d @ H.double() @ d)), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": torch.zeros(6).double()}, "length zero"),
        ({"step": torch.ones(5).double()}, "shape"),
        ({"step": torch.full((6,), math.nan).double()}, "not finite"),
        ({"gradient_w": torch.full((6,), math.nan).double()}, "not finite"),
        ({"tol": 0.0}, "tol=0"),
        ({"most": 1.0}, "most=1"),
        ({"start": math.inf}, "start=inf"),
        ({"population": 100}, "population=100; expected an Objective"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(change: dict[str, object], words: str) -> None:
    _, function, w, step = quadratic(0)
    with pytest.raises(InputError, match=words) as refused:
        es.headroom(function, w, **{"step": step} | change)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def sampled(seed: int, population: int = 100, size: int = 50) -> tuple[list[float], list[float], float]:
    """Headrooms of batches of ``size`` of 100 digits along one step, their standard errors, and that of all."""
    exact, w, step = net(torch.float64)
    truth = es.headroom(exact, w, step)
    inputs, targets = digits(random_labels=True)
    values, errors = [], []
    generator = torch.Generator().manual_seed(seed)
    for _ in range(120):
        chosen = torch.randperm(100, generator=generator)[:size]
        part = objective_of(exact.model, (inputs[chosen], targets[chosen]))
        found = es.headroom(part, w, step, population=population)
        if found.sampling is not None:
            values.append(found.value)
            errors.append(found.sampling)
    return values, errors, truth.value


@pytest.mark.slow
def test_the_sampling_error_is_the_spread_over_batches() -> None:
    """Of 50 out of 100, with the factor of a finite population: without it the errors would be 1.4 times as large."""
    values, errors, truth = sampled(0)
    assert len(values) >= 110
    predicted, spread = float(np.median(errors)), float(np.std(values))
    assert predicted == pytest.approx(spread, rel=0.25)
    off = np.abs(np.array(values) - truth) / np.array(errors)
    assert (off <= 2).mean() >= 0.9
    assert 0.55 <= (off <= 1).mean() <= 0.82


def test_all_samples_of_a_population_have_no_sampling_error() -> None:
    exact, w, step = net(torch.float64)
    assert es.headroom(exact, w, step, population=100).sampling == 0
    half = es.headroom(exact, w, step, population=10**9).sampling
    assert half is not None
    assert half > 0
    with pytest.raises(InputError, match="at least its number of samples, 100"):
        es.headroom(exact, w, step, population=99)
