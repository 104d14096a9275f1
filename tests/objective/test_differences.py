"""Hessian products by differences of gradients, beside the dense Hessian in float64: their stated errors cover it."""

from __future__ import annotations

import copy

import pytest
import torch
from objective_problems import Case, Net, labelled, mlp, relative
from torch import Tensor, nn

from edgescope import Monitor, measure
from edgescope.errors import InputError, NotDifferentiableError
from edgescope.linalg import DiagonalMetric, frobenius, spectrum, to_matrix, top_eigenpairs, trace
from edgescope.losses import cross_entropy, supervised
from edgescope.objective import Objective
from edgescope.sharpness import generalized_sharpness

DTYPES = [torch.float32, torch.float64]


def transformer() -> Case:
    def forward(net: Net, tokens: Tensor) -> Tensor:
        return net.head(net.block(net.embed(tokens)).mean(1))

    block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True)
    net = Net(forward, embed=nn.Embedding(7, 8), block=block, head=nn.Linear(8, 3))
    return Case(net, supervised(cross_entropy), [(torch.randint(7, (20, 5)), torch.randint(3, (20,)))])


CASES = {
    "tanh": lambda: Case(mlp(), supervised(cross_entropy), [labelled(12, 4), labelled(9, 4)]),
    "gelu": lambda: Case(mlp(nn.GELU), supervised(cross_entropy), [labelled(12, 4)]),
    "transformer": transformer,
}


def trained(name: str, steps: int = 100) -> Case:
    """A case after some steps of gradient descent, where the curvature is far from that of an initialization."""
    torch.manual_seed(0)
    case = CASES[name]()
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(case.loss_fn(case.model, batch) for batch in case.batches).backward()
        optimizer.step()
    return case


def objective(case: Case, dtype: torch.dtype, path: str = "difference", **options: float) -> Objective:
    return Objective(
        copy.deepcopy(case.model), case.loss_fn, case.batches, dtype=dtype, path=path, threads=1, **options
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_error_of_a_product_covers_what_it_is_off(name: str, dtype: torch.dtype) -> None:
    case = trained(name)
    exact, found = objective(case, torch.float64, "rebuilt", l2=0.1), objective(case, dtype, l2=0.1)
    top = top_eigenpairs(exact, 2).vectors
    block = torch.cat([torch.randn(exact.size, 6).double(), top, exact.gradient()[:, None]], dim=1)
    block[:, 0] *= 1e4  # results are linear in the length of a vector
    operator = found.operator()
    product, wanted = operator @ block.to(dtype), exact.hvp(block)
    lengths = block.norm(dim=0)
    off = (product.double() - wanted).norm(dim=0) / lengths
    errors = torch.tensor([error for error, _ in found.product_errors.measured]).double()
    assert bool((off <= errors).all()), (off, errors)
    assert operator.product_error == pytest.approx(float(errors.max()), rel=1e-4)
    goal = {torch.float32: 1e-3, torch.float64: 1e-7}[dtype]
    assert bool((off <= goal * wanted.norm(dim=0) / lengths).all())
    assert found.spent.products == block.shape[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_results_are_within_their_errors(name: str, dtype: torch.dtype) -> None:
    case = trained(name)
    exact, found = objective(case, torch.float64, "rebuilt"), objective(case, dtype)
    matrix = to_matrix(exact)
    values = torch.linalg.eigvalsh(matrix).flip(0)

    pairs = top_eigenpairs(found, 3)
    assert bool(pairs.converged.all())
    assert bool(((pairs.values - values[:3]).abs() <= pairs.error).all())
    assert float(pairs.error.max()) < 1e-2 * float(values[0])

    for result, truth in ((trace(found), values.sum()), (frobenius(found), values.norm())):
        assert abs(result.value - float(truth)) <= 3 * result.error  # standard errors
    assert float((density := spectrum(found, probes=4, steps=20, seed=1)).rounding) < 0.01 * float(values[0])
    assert abs(density.trace - float(values.sum())) <= 4 * density.trace_error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_where_nothing_is_sampled_the_error_is_that_of_products(name: str, dtype: torch.dtype) -> None:
    case = trained(name)
    found = objective(case, dtype)
    values = torch.linalg.eigvalsh(to_matrix(objective(case, torch.float64, "rebuilt"))).flip(0)
    whole = trace(found, num_matvecs=found.size)
    assert whole.method == "exact"
    assert abs(whole.value - float(values.sum())) <= whole.error < 0.05 * abs(float(values.sum()))
    density = spectrum(found, method="exact")
    assert abs(density.trace - float(values.sum())) <= density.trace_error
    assert float((density.nodes - values.flip(0)).abs().max()) <= density.rounding


def test_errors_go_through_what_is_made_of_products() -> None:
    """A metric stretches errors as it does products."""
    case = trained("tanh")
    exact, found = objective(case, torch.float64, "rebuilt"), objective(case, torch.float32)
    entries = torch.logspace(-4, 0, found.size)
    wanted = top_eigenpairs(exact, 2, metric=DiagonalMetric(entries.double()))
    pairs = top_eigenpairs(found, 2, metric=DiagonalMetric(entries))
    assert bool(((pairs.values - wanted.values).abs() <= pairs.error).all())
    operator = found.operator()
    scale = entries.rsqrt()[:, None]
    stretched = operator.derived(lambda block: scale * (operator @ (scale * block)) + 3 * block)
    block = torch.randn(found.size, 4)
    off = stretched @ block - scale * exact.hvp((scale * block).double()) - 3 * block
    assert bool((off.norm(dim=0) <= stretched.product_error * block.norm(dim=0)).all())
    assert stretched.product_error < 100 * float((off.norm(dim=0) / block.norm(dim=0)).max())
    assert operator.products == 4
    sharp, truth = generalized_sharpness(found, "linf"), generalized_sharpness(exact, "linf")
    assert sharp.lower <= truth.lower + 1e-9 <= sharp.upper + 2e-9
    assert sharp.lower < truth.lower  # by the error


def test_readings_say_how_far_products_are_off() -> None:
    case = trained("tanh")
    found = objective(case, torch.float32)
    reading = measure(found, "sharpness")
    assert "Hessian products by differences of gradients, off by up to" in reading.note
    assert "of the largest product" in reading.note
    assert measure(found, "loss").note == ""
    assert measure(objective(case, torch.float32, "rebuilt"), "sharpness").note == ""
    monitor = Monitor(found, torch.optim.SGD(found.model.parameters(), lr=0.1), measures=["sharpness"])
    monitor.start()
    assert "by differences of gradients" in monitor.latest["sharpness"].note


def test_products_depend_on_point_and_vector_alone() -> None:
    case = trained("tanh", steps=20)
    first, second = objective(case, torch.float32), objective(case, torch.float32)
    V = torch.randn(first.size, 3)
    second.hvp(torch.ones(first.size))
    second.gradient()
    wanted = first.hvp(V)
    assert torch.equal(wanted, second.hvp(V))
    assert torch.equal(wanted[:, 1], second.hvp(V[:, 1]))
    assert bool((first.hvp(torch.zeros(first.size)) == 0).all())
    gradients = [p.grad for p in first.model.parameters()]
    assert gradients == [None] * len(gradients)


KINKS = {
    "relu": (nn.ReLU(), "relu"),
    "leaky": (nn.LeakyReLU(), "leaky_relu"),
    "selu": (nn.SELU(), "elu"),
    "relu6": (nn.ReLU6(), "hardtanh"),
    "prelu": (nn.PReLU(), "prelu_kernel"),
    "hardswish": (nn.Hardswish(), "hardswish"),
    "max-pool": (nn.Sequential(nn.Unflatten(1, (1, -1)), nn.MaxPool1d(2), nn.Flatten()), "max_pool2_dwith_indices"),
    "clamp": (Net(lambda _, x: x.clamp(min=0)), "clamp"),
}


@pytest.mark.parametrize("name", KINKS)
def test_functions_that_are_linear_in_pieces_are_refused(name: str) -> None:
    layer, operation = KINKS[name]
    model = nn.Sequential(nn.Linear(4, 6), layer, nn.LazyLinear(3))
    x, y = labelled(10, 4)
    model(x)
    o = Objective(model, supervised(cross_entropy), (x, y), path="difference", threads=1)
    with pytest.raises(NotDifferentiableError) as caught:
        o.hvp(torch.ones(o.size))
    text = str(caught.value)
    assert "path='difference' is meaningless for the operation '" + operation in text
    assert "whose derivative jumps" in text
    assert "\n" not in text


@pytest.mark.parametrize("layer", [nn.ELU(), nn.CELU(), nn.SiLU(), nn.Softplus(), nn.AvgPool1d(2)], ids=str)
def test_smooth_functions_are_not(layer: nn.Module) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), layer, nn.LazyLinear(3))
    x, y = labelled(10, 4)
    model(x)
    found = Objective(model, supervised(cross_entropy), (x, y), path="difference", dtype=torch.float64, threads=1)
    exact = Objective(model, supervised(cross_entropy), (x, y), path="rebuilt", dtype=torch.float64, threads=1)
    V = torch.randn(exact.size).double()
    assert relative(found.hvp(V), exact.hvp(V)) < 1e-6


def test_what_has_no_second_derivative_is_measured() -> None:
    """A function that can only be differentiated once: the reason for this path."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    torch.manual_seed(2)
    x, y = labelled(10, 4)
    first, last = nn.Linear(4, 6), nn.Linear(6, 3)
    once = Net(lambda net, x: net.last(Cube.apply(net.first(x))), first=first, last=last)
    twice = Net(lambda net, x: net.last(net.first(x) ** 3), first=first, last=last)
    options = {"dtype": torch.float64, "threads": 1}
    found = Objective(once, supervised(cross_entropy), (x, y), path="difference", **options)
    exact = Objective(twice, supervised(cross_entropy), (x, y), path="rebuilt", **options)
    V = torch.randn(exact.size).double()
    assert relative(found.hvp(V), exact.hvp(V)) < 1e-6
    with pytest.raises(NotDifferentiableError):
        Objective(once, supervised(cross_entropy), (x, y), **options).hvp(V)


def test_it_is_never_chosen_and_has_a_plan() -> None:
    case = trained("tanh", steps=1)
    assert objective(case, torch.float32, "auto").product_errors is None
    assert objective(case, torch.float32).plan().path == "difference"
    with pytest.raises(InputError):
        objective(case, torch.float32, "differences")
