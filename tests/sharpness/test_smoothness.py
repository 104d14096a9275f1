"""Directional smoothness: quadratics, quartics in closed form, and what float32 does to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.geometry import Euclidean, Linf
from edgescope.sharpness import directional_smoothness

# torch's own forward mode uses a part of torch that it has deprecated, once, on import
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


class Function:
    """A loss given as a function; evaluations beyond those allowed fail the test."""

    def __init__(self, loss_of: Callable[[Tensor], Tensor], allowed: Cost | None = None) -> None:
        self.loss_of, self.allowed, self.cost = loss_of, allowed, Cost()

    def loss(self, w: Tensor) -> Tensor:
        self.cost += Cost(losses=1)
        return self.loss_of(w)

    def gradient(self, w: Tensor) -> Tensor:
        self.cost += Cost(gradients=1)
        return grad(self.loss_of)(w)

    def hvp(self, V: Tensor, w: Tensor) -> Tensor:
        self.cost += Cost(products=1)
        return hessian(self.loss_of)(w) @ V


def draw(seed: int, size: int = 6) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("length", "method"), [(1.0, "differences"), (1e-9, "gradients"), (1e-13, "products")])
def test_quadratic(seed: int, length: float, method: str) -> None:
    A = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    H = A + A.T  # indefinite: the value may be negative
    w, d = draw(seed + 10), draw(seed + 20) * length
    function = Function(lambda w: 0.5 * w @ H @ w + w.sum() + 3)
    found = directional_smoothness(function, w, w + d)
    d = (w + d) - w
    exact = float(d @ H @ d / (d @ d))
    assert found.method == method
    assert abs(found.value - exact) <= found.error
    assert found.error < 1e-2 * abs(exact)
    if method != "differences":
        assert found.value == pytest.approx(exact, rel=1e-10 if method == "products" else 1e-4)
    assert found.cost == function.cost == Cost(2, 1 if method == "differences" else 3, 3 * (method == "products"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("length", "method"), [(0.5, "differences"), (1e-8, "gradients"), (1e-14, "products")])
def test_quartic(seed: int, length: float, method: str) -> None:
    """For the sum of w^4, D |d|^2 = sum of 12 w^2 d^2 + 8 w d^3 + 2 d^4; three nodes integrate it exactly."""
    w, step = draw(seed), draw(seed + 30) * length
    found = directional_smoothness(Function(lambda w: (w**4).sum()), w, w + step)
    d = (w + step) - w
    exact = float((12 * w**2 * d**2 + 8 * w * d**3 + 2 * d**4).sum() / (d @ d))
    assert found.method == method
    assert found.value == pytest.approx(exact, rel=1e-9 if method != "gradients" else 1e-5)


def test_simpson_s_rule_on_gradients_is_exact_on_a_quartic_and_overstates_its_error() -> None:
    """A constant of 1e12 drowns the differences, and the step is short enough for the rule on both ends alone."""
    w, d = draw(0), draw(1) * 1e-3
    function = Function(lambda w: (w**4).sum() + 1e12)
    found = directional_smoothness(function, w, w + d)
    d = (w + d) - w
    exact = float((12 * w**2 * d**2 + 8 * w * d**3 + 2 * d**4).sum() / (d @ d))
    assert found.method == "gradients"
    assert found.value == pytest.approx(exact, rel=1e-9)
    assert abs(found.value - exact) <= found.error <= 0.03 * abs(exact)
    assert found.cost == function.cost == Cost(2, 3)
    given = directional_smoothness(function, w, w + d, gradient_next=function.gradient(w + d))
    assert (given.value, given.cost) == (found.value, Cost(2, 2))


def test_the_integral_is_exact_on_a_quartic_however_long_the_step() -> None:
    """A large constant drowns the differences, so the products must see the whole segment."""
    w, d = draw(0), draw(1)
    found = directional_smoothness(Function(lambda w: (w**4).sum() + 1e18), w, w + d)
    exact = float((12 * w**2 * d**2 + 8 * w * d**3 + 2 * d**4).sum() / (d @ d))
    assert found.method == "products"
    assert found.value == pytest.approx(exact, rel=1e-10)
    assert abs(found.value - exact) <= found.error


def network(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(200, 5, dtype=torch.float64, generator=generator).to(dtype)
    y = torch.randint(3, (200,), generator=generator)

    def loss_of(w: Tensor) -> Tensor:
        hidden = (x @ w[:40].view(5, 8)).tanh()
        return torch.nn.functional.cross_entropy(hidden @ w[40:].view(8, 3), y)

    return loss_of


def by_quadrature(loss_of: Callable[[Tensor], Tensor], w: Tensor, w_next: Tensor) -> float:
    """2 int (1 - t) d^T H(w + t d) d dt / |d|^2 by twelve Gauss-Legendre nodes."""
    d = w_next - w
    nodes, weights = np.polynomial.legendre.leggauss(12)
    points = [((x + 1) / 2, weight) for x, weight in zip(nodes, weights, strict=True)]
    return sum(weight * (1 - t) * float(d @ hessian(loss_of)(w + t * d) @ d) for t, weight in points) / float(d @ d)


@pytest.mark.parametrize("length", [1e-4, 1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_is_within_its_stated_error_of_float64(length: float, seed: int) -> None:
    w = draw(seed, 64).float()
    d = draw(seed + 40, 64)
    w_next = (w + length * d / d.norm()).float()
    found = directional_smoothness(Function(network(torch.float32)), w, w_next)
    truth = by_quadrature(network(torch.float64), w.double(), w_next.double())
    assert abs(found.value - truth) <= found.error
    assert found.value == pytest.approx(truth, rel=2e-2)


def test_differences_alone_would_be_wrong_there() -> None:
    """The case is real: at this length float32 differences are off by more than the value."""
    w = draw(0, 64).float()
    d = draw(40, 64)
    w_next = (w + 1e-4 * d / d.norm()).float()
    function = Function(network(torch.float32))
    step = w_next.double() - w.double()
    change = function.loss(w_next).double() - function.loss(w).double() - function.gradient(w).double() @ step
    naive = float(change / (0.5 * step @ step))
    found = directional_smoothness(function, w, w_next)
    assert found.method == "products"
    assert abs(naive - found.value) > abs(found.value)


def test_products_alone_need_neither_loss_nor_gradient() -> None:
    function = Function(lambda w: (w**4).sum())
    w, w_next = draw(0), draw(1)
    found = directional_smoothness(function, w, w_next, method="products")
    assert found.cost == function.cost == Cost(products=3)
    assert found.value == pytest.approx(directional_smoothness(function, w, w_next).value, rel=1e-10)


def test_another_norm() -> None:
    H = torch.diag(torch.tensor([2.0, 3.0], dtype=torch.float64))
    function = Function(lambda w: 0.5 * w @ H @ w)
    w, w_next = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert directional_smoothness(function, w, w_next, Linf()).value == pytest.approx(14 / 4)
    assert directional_smoothness(function, w, w_next, Euclidean()).value == pytest.approx(14 / 5)


def test_descent_identity() -> None:
    """L(w - lr g) - L(w) = -lr (1 - lr D / 2) |g|^2, exactly."""
    function, w, lr = Function(network(torch.float64)), draw(3, 64), 0.7
    g = function.gradient(w)
    D = directional_smoothness(function, w, w - lr * g).value
    change = float(function.loss(w - lr * g) - function.loss(w))
    assert change == pytest.approx(float(-lr * (1 - lr * D / 2) * (g @ g)), rel=1e-8)


def test_what_the_caller_has_is_not_paid_for_twice() -> None:
    function = Function(network(torch.float64))
    w, w_next = draw(0, 64), draw(1, 64)
    known = {
        "loss_w": function.loss_of(w),
        "gradient_w": grad(function.loss_of)(w),
        "loss_next": float(function.loss_of(w_next)),
    }
    found = directional_smoothness(function, w, w_next, **known)
    assert found.cost == function.cost == Cost()
    assert found.value == directional_smoothness(function, w, w_next).value


@pytest.mark.parametrize(
    ("w", "w_next", "names"),
    [
        (torch.ones(3), torch.ones(3), "length zero"),
        (torch.ones(3), torch.ones(4), "shapes (3,) and (4,)"),
        (torch.ones(2, 2), torch.zeros(2, 2), "shapes (2, 2)"),
        (torch.ones(3), torch.full((3,), float("nan")), "not finite"),
        (torch.ones(3), torch.full((3,), 1e30), "not finite"),
    ],
)
def test_bad_input_is_one_line(w: Tensor, w_next: Tensor, names: str) -> None:
    with pytest.raises(InputError) as caught:
        directional_smoothness(Function(lambda w: (w**4).sum()), w, w_next)
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
