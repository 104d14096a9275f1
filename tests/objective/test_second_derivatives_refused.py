"""What the comparison with differences refuses, what it lets pass, and how errors name the operation at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_problems import Net, Scaled, labelled, relative
from torch import Tensor, nn

from edgescope.errors import EdgescopeError, EdgescopeWarning, InputError, NotDifferentiableError
from edgescope.losses import supervised
from edgescope.measures import MEASURES
from edgescope.monitor import Monitor
from edgescope.objective import Objective
from edgescope.objective.differences import judge

PARTS = [slice(0, 3), slice(3, 4)]


def judged(function: Callable[[float], Tensor], found: Tensor, precision: torch.dtype = torch.float64) -> str:
    size = float(function(0.0).norm())
    return judge(function, found, PARTS, length=1.0, rounding=torch.finfo(precision).eps * size)


@settings(max_examples=60)
@given(
    coefficients=st.lists(st.floats(-3, 3), min_size=12, max_size=12),
    part=st.integers(0, 3),
    exponent=st.floats(-4, 0),
)
def test_a_derivative_that_is_off_by_a_ten_thousandth_differs(
    coefficients: list[float], part: int, exponent: float
) -> None:
    """Vectors of three cubic polynomials and one: an entry wrong by a share of the norm of its part, and none."""
    c = torch.tensor(coefficients, dtype=torch.float64).view(3, 4)
    slope = c[0].where(c[0].abs() > 0.1, 1.0)

    def function(t: float) -> Tensor:
        return 0.3 + slope * t + c[1] * t**2 + c[2] * t**3

    assert judged(function, slope) == "agrees"
    wrong = slope.clone()
    wrong[part] += 10**exponent * slope[PARTS[part // 3]].norm()
    assert judged(function, wrong) == "differs"


ZERO, ONE = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("function", "found", "verdict"),
    [
        (lambda t: ONE * max(t, 0.0), ZERO, "open"),  # a kink: between two derivatives
        (lambda t: ONE * (t > 0), ZERO, "open"),  # a jump
        (lambda t: ONE * abs(t) ** 0.5 * (1 if t > 0 else -1), ZERO, "open"),  # infinite
        (lambda t: ONE * max(t - 3e-6, 0.0), ZERO, "agrees"),  # a kink further away than the smallest steps
        (lambda t: ONE * t**2, ZERO, "agrees"),
        (lambda t: ONE * t**3, ZERO, "agrees"),
        (lambda t: 0 * ONE, ZERO, "agrees"),
        (lambda t: 0 * ONE, ONE, "differs"),
        (lambda t: ONE * t, ZERO, "differs"),
    ],
)
def test_kinks_jumps_and_derivatives_that_vanish(function: Any, found: Tensor, verdict: str) -> None:
    assert judged(function, found) == verdict


def test_values_rounded_to_single_precision_agree_to_a_hundredth() -> None:
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(4, generator=generator, dtype=torch.float64)

    def function(t: float) -> Tensor:
        return (1 + slope * (t + t**2)).float().double()

    assert judged(function, slope) == "agrees"
    assert judged(function, 1.5 * slope) != "agrees"


@pytest.mark.parametrize(("width", "off"), [(299, 1.0), (299, 1e-2), (3, 1e-4)])
def test_a_small_fault_in_a_small_tensor_is_seen(width: int, off: float) -> None:
    """Three parameters of up to 30,003, whose second derivatives are wrong by as little as a ten thousandth."""
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.large(x).tanh().sum(1) + Scaled.apply(m.small.weight, m.off).sum(), large=nn.Linear(width, 100)
    )
    net.small, net.off = nn.Linear(3, 1, bias=False), off
    objective = Objective(net, lambda m, x: m(x).square().mean(), torch.randn(8, width), dtype=torch.float64, threads=1)
    with pytest.raises(NotDifferentiableError, match="custom autograd function Scaled"):
        objective.hvp(torch.ones(objective.size))
    net.off = 0.0
    objective.hvp(torch.ones(objective.size))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Hardtanh, nn.Softsign])
def test_networks_on_a_kink_pass(activation: type[nn.Module]) -> None:
    """Empty samples under zero biases put every unit where its derivative, or its second one, jumps."""
    net = nn.Sequential(nn.Linear(4, 20), activation(), nn.Linear(20, 20), activation(), nn.Linear(20, 3)).double()
    for layer in (net[0], net[2], net[4]):
        nn.init.zeros_(layer.bias)
    inputs = torch.randn(6, 4, dtype=torch.float64)
    inputs[:5] = 0.0
    objective = Objective(net, supervised(F.cross_entropy), (inputs, torch.randint(3, (6,))), threads=1)
    assert objective.hvp(torch.ones(objective.size, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("padding", [0, 2, -1])
def test_rows_that_stand_for_padding_pass(padding: int) -> None:
    """The loss depends on such a row, and its gradient is zero: no fault of any operation."""
    torch.manual_seed(0)
    net = Net(lambda m, x: m.head(m.embed(x).flatten(1).tanh()), embed=nn.Embedding(4, 3, padding_idx=padding))
    net.embed.weight.data.normal_()
    net.head = nn.Linear(6, 3)
    objective = Objective(net, supervised(F.cross_entropy), (torch.randint(4, (9, 2)), torch.randint(3, (9,))))
    products = objective.hvp(torch.eye(objective.size))
    row = slice(3 * (padding % 4), 3 * (padding % 4) + 3)
    assert not products[row].any()
    assert not products[:, row].any()
    assert float(products.norm()) > 0.1


def test_a_loss_that_jumps_is_refused() -> None:
    """Torch's reflections round the signs that they keep on a diagonal of -1: the next smaller number becomes 0."""
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map="householder")
    objective = Objective(layer, supervised(F.cross_entropy), labelled(6, 4))
    with pytest.raises(NotDifferentiableError, match="the loss jumps at these parameters, by"):
        objective.hvp(torch.ones(objective.size))


class At(nn.Module):
    """A function of one parameter vector."""

    def __init__(self, function: Callable[[Tensor], Tensor], values: list[float]) -> None:
        super().__init__()
        self.w, self.function = nn.Parameter(torch.tensor(values)), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.w) + 0 * inputs.sum()


def at(function: Callable[[Tensor], Tensor], values: list[float], **options: Any) -> Objective:
    return Objective(At(function, values), lambda m, x: m(x), torch.ones(3, 1), threads=1, **options)


NOT_FINITE = {
    "sinc": (lambda w: torch.sinc(w).sum(), [0.0, 1.0], "Hessian", "'sinc'"),
    "norm": (torch.norm, [0.0, 0.0], "Hessian", "'linalg_vector_norm'"),
    "squared norm": (lambda w: torch.norm(w) ** 2, [0.0, 0.0], "Hessian", "'linalg_vector_norm'"),
    "pow": (lambda w: (w.abs() ** 1.5).sum(), [0.0, 1.0], "Hessian", "'pow'"),
    "singular values": (lambda w: torch.linalg.svdvals(w.diag()).sum(), [1.0, 1.0], "Hessian", "'linalg_svd'"),
    "eigenvalues": (lambda w: torch.linalg.eigvalsh(w.diag()).square().sum(), [1.0, 1.0], "Hessian", "'linalg_eigh'"),
    "overflow": (lambda w: (60 * w).exp().sum(), [1.0, 1.4], "Hessian", "'mul'"),
    "sqrt": (lambda w: (w**2).sqrt().sum(), [0.0, 1.0], "gradient", "'sqrt'"),
    "arc cosine": (lambda w: torch.acos(w).sum(), [0.5, 1.0], "gradient", "'acos'"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["auto", "kept", "rebuilt", "rebuilt-batched", "forward"])
@pytest.mark.parametrize("name", NOT_FINITE)
def test_a_hessian_that_does_not_exist_is_said_so_with_its_operation(name: str, path: str) -> None:
    function, values, what, operation = NOT_FINITE[name]
    objective = at(function, values, path=path)
    for vectors in (torch.ones(len(values)), torch.eye(len(values)), torch.ones(len(values))):  # a second time as well
        with pytest.raises(NotDifferentiableError) as caught:
            objective.operator() @ vectors
        message = str(caught.value)
        assert f"the {what} of this loss does not exist, or is not finite, at these parameters" in message
        assert operation in message
        assert "\n" not in message


@pytest.mark.parametrize("path", ["auto", "rebuilt", "forward"])
def test_it_is_said_at_later_parameters_too(path: str) -> None:
    objective = at(lambda w: torch.sinc(w).sum(), [0.5, 1.0], path=path)
    product = objective.hvp(torch.ones(2))
    for _ in range(2):
        with pytest.raises(NotDifferentiableError, match="'sinc'"):
            objective.hvp(torch.ones(2), torch.tensor([0.0, 1.0]))
    assert torch.equal(objective.hvp(torch.ones(2)), product)


def test_a_loss_that_is_not_finite_is_said_so() -> None:
    objective = at(lambda w: w.sqrt().sum(), [1.0, 2.0])
    objective.hvp(torch.ones(2))
    with pytest.raises(InputError, match="the loss is nan at these parameters"):
        objective.hvp(torch.ones(2), torch.tensor([-1.0, 1.0]))


def test_a_product_that_overflows_for_its_vector_is_infinite_and_no_fault_of_the_loss() -> None:
    objective = at(lambda w: 1e20 * w.square().sum(), [1.0, 2.0], dtype=torch.float32)
    assert objective.hvp(torch.full((2,), 1e20)).isinf().all()
    assert relative(objective.hvp(torch.ones(2)), torch.full((2,), 2e20)) < 1e-6


def test_the_monitor_passes_the_reason_on() -> None:
    model = At(lambda w: torch.sinc(w).sum(), [0.0, 1.0])
    objective = Objective(model, lambda m, x: m(x), torch.ones(3, 1), threads=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective, optimizer, every=1, measures=["sharpness", "hessian_trace", "training_loss"])
    with pytest.warns(EdgescopeWarning, match="'sinc'"):
        monitor.start()
    notes = {row["measure"]: row["note"] for row in monitor.table().iter_rows(named=True)}
    assert "'sinc'" in notes["sharpness"]
    assert "'sinc'" in notes["hessian_trace"]
    assert notes["training_loss"] == ""
    assert "sharpness" in MEASURES.names()


class Detached(torch.autograd.Function):
    """w^3, whose backward is cut off from its gradient."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return w**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return 3 * w**2 * gradient.detach()


def gauss_newton(function: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    model = Net(lambda m, x: function(m.layer(x)), layer=nn.Linear(4, 3)).to(dtype)
    loss_fn = supervised(F.mse_loss)
    objective = Objective(model, loss_fn, (torch.randn(5, 4, dtype=dtype), torch.randn(5, 3, dtype=dtype)), threads=1)
    return objective.gnvp(torch.ones(objective.size, dtype=dtype))


@pytest.mark.parametrize(
    "function", [torch.tanh, torch.relu, lambda z: z.logcumsumexp(1), lambda z: F.layer_norm(z, (3,))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_gauss_newton_products_pass(function: Any, dtype: torch.dtype) -> None:
    assert gauss_newton(function, dtype).any()


def test_wrong_gauss_newton_products_are_refused() -> None:
    with pytest.raises(EdgescopeError, match=r"Gauss-Newton product .* custom autograd function Detached"):
        gauss_newton(Detached.apply)


def test_gauss_newton_of_a_gradient_that_is_not_finite() -> None:
    model = Net(lambda m, x: m.layer(x).square().sqrt(), layer=nn.Linear(1, 1, bias=False))
    model.layer.weight.data.zero_()
    objective = Objective(model, supervised(F.mse_loss), (torch.ones(3, 1), torch.ones(3, 1)), threads=1)
    with pytest.raises(NotDifferentiableError, match=r"the gradient of this loss .*'sqrt'"):
        objective.gnvp(torch.ones(1))
