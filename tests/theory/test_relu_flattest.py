"""Flattest ReLU networks: closed forms against dense Hessians and against numeric minimisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.utils import parameters_to_vector

from edgescope.losses import Logistic
from edgescope.models import MODELS
from edgescope.theory import relu

ARCHITECTURES = ("no-bias", "bias", "batchnorm", "layernorm")

# torch's own forward-mode derivatives use what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def squared(f: Tensor, y: Tensor) -> Tensor:
    return (f - y).square().mean()


def dense_trace(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] = squared
) -> tuple[float, float]:
    """The trace of the dense Hessian of the loss in the parameters, and the loss, in float64."""
    shapes = [(name, p.shape) for name, p in model.named_parameters()]

    def of_flat(w: Tensor) -> Tensor:
        pieces = w.split([s.numel() for _, s in shapes])
        named = {name: piece.view(s) for (name, s), piece in zip(shapes, pieces, strict=True)}
        return loss(functional_call(model, named, (x,))[:, 0], y)

    w = parameters_to_vector(model.parameters()).detach()
    assert w.dtype == torch.float64
    return float(hessian(of_flat)(w).trace()), float(of_flat(w))


def hypercube(d: int) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * d)


def xor_draw(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Distinct points of the hypercube, all corners of the first two coordinates among them."""
    generator = torch.Generator().manual_seed(seed)
    x = hypercube(d)[torch.randperm(2**d, generator=generator)[: n - 4]]
    x = torch.cat([torch.cat([hypercube(2), torch.ones(4, d - 2, dtype=torch.float64)], 1), x]).unique(dim=0)
    return x, x[:, 0] * x[:, 1]


def normal(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((n, d), (n,)))
    return x, y


def never_at_a_kink(model: nn.Module, x: Tensor) -> bool:
    h = x
    for layer in model.layers:
        z = layer(h[(h != 0).any(1)]).detach()  # where nothing fires, nothing can begin to fire further up
        if float(z.abs().min() / z.abs().max()) < 1e-8:
            return False
        h = z.relu()
    return True


@pytest.mark.parametrize(
    ("architecture", "golden"), [("bias", 22.271), ("no-bias", 21.909), ("layernorm", 2.0), ("batchnorm", 8.0)]
)
def test_the_minima_for_xor_in_30_dimensions(architecture: str, golden: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rest = torch.randint(0, 2, (25, 28), generator=generator) * 2.0 - 1
    x = torch.cat([torch.cat([corner.expand(25, 2), rest], 1) for corner in hypercube(2)])
    y = x[:, 0] * x[:, 1]
    assert relu.minimal_trace(architecture, x, y) == pytest.approx(golden, rel=3e-5)
    assert relu.minimal_trace(architecture, x.numpy(), y[:, None].numpy()) == pytest.approx(golden, rel=3e-5)


def test_networks_for_xor_in_30_dimensions() -> None:
    generator = torch.Generator().manual_seed(1)
    x = (torch.randint(0, 2, (100, 30), generator=generator) * 2.0 - 1).double()
    y = x[:, 0] * x[:, 1]
    fresh = (torch.randint(0, 2, (2000, 30), generator=generator) * 2.0 - 1).double()
    memorizing, right = relu.memorizing("bias", x, y), relu.generalizing("bias", x, y)
    assert relu.trace_at_interpolation(memorizing, x) == pytest.approx(22.271, rel=3e-5)
    assert float((memorizing(x)[:, 0] - y).detach().abs().max()) < 1e-13
    assert bool((memorizing(fresh) == 0).all())
    assert relu.trace_at_interpolation(right, x) == pytest.approx(22.271, rel=3e-5)
    with torch.no_grad():  # what the paper prints: rows and biases r, head 1/r, with r = (d^2 + 1)^(1/4)
        larger = (30**2 + 1) ** 0.25 / (30 + 1) ** 0.25
        right.layers[0].weight.mul_(larger)
        right.layers[0].bias.mul_(larger)
        right.head.weight.div_(larger)
    assert relu.trace_at_interpolation(right, x) == pytest.approx(62.10, abs=0.01)
    shares = torch.unique(x[:, :2], dim=0, return_counts=True)[1] / 100
    unbalanced = relu.minimal_trace("batchnorm", x, y)
    assert unbalanced == pytest.approx(4 * float(shares.sqrt().sum()), rel=1e-6)
    assert 7.7 < unbalanced < 8
    assert relu.trace_at_interpolation(relu.generalizing("batchnorm", x, y), x) == pytest.approx(unbalanced, rel=1e-8)
    assert relu.trace_at_interpolation(relu.generalizing("no-bias", x, y), x) == pytest.approx(30.98, abs=0.005)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("architecture", ["bias", "batchnorm", "layernorm"])
def test_generalizing_networks_attain_the_minimum_and_are_right_everywhere(architecture: str, seed: int) -> None:
    x, y = xor_draw(14, 5, seed)
    for scale in (1.0, -0.7):
        network = relu.generalizing(architecture, x, scale * y)
        trace, loss = dense_trace(network, x, scale * y)
        assert loss < 1e-24
        assert trace == pytest.approx(relu.minimal_trace(architecture, x, scale * y), rel=1e-7)
        assert never_at_a_kink(network, x)
        everywhere = hypercube(5)
        torch.testing.assert_close(network(everywhere)[:, 0], scale * everywhere[:, 0] * everywhere[:, 1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("architecture", ["bias", "layernorm"])
def test_memorizing_networks_attain_the_minimum_and_know_nothing_else(architecture: str, seed: int) -> None:
    x, y = xor_draw((14, 7, 5)[seed], 5, seed)
    network = relu.memorizing(architecture, x, y)
    trace, loss = dense_trace(network, x, y)
    assert loss < 1e-24
    assert trace == pytest.approx(relu.minimal_trace(architecture, x, y), rel=1e-9)
    assert never_at_a_kink(network, x)
    known = (hypercube(5)[:, None] == x).all(-1).any(-1)
    f = network(hypercube(5))[:, 0]
    assert bool((f[~known] == 0).all())
    assert int((f != 0).sum()) == len(x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("architecture", "depth", "epsilon"),
    [("bias", 2, 1e-5), ("bias", 3, 1e-5), ("bias", 4, 1e-5), ("layernorm", 2, 1e-5), ("layernorm", 2, 2.0)],
)
def test_any_targets_are_memorized_with_the_minimal_trace(
    architecture: str, depth: int, epsilon: float, seed: int
) -> None:
    x, y = normal(7, 6, seed)
    y[2] = 0.0
    network = relu.memorizing(architecture, x, y, depth=depth, epsilon=epsilon)
    trace, loss = dense_trace(network, x, y)
    assert loss < 1e-20
    assert trace == pytest.approx(relu.minimal_trace(architecture, x, y, depth=depth, epsilon=epsilon), rel=1e-8)
    assert never_at_a_kink(network, x)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_without_bias_independent_inputs_are_memorized_with_the_minimal_trace(seed: int, depth: int) -> None:
    x, y = normal(6, 6, seed)
    network = relu.memorizing("no-bias", x, y, depth=depth)
    trace, loss = dense_trace(network, x, y)
    assert loss < 1e-20
    assert trace == pytest.approx(relu.minimal_trace("no-bias", x, y, depth=depth), rel=1e-8)
    assert never_at_a_kink(network, x)
    assert all(p.ndim == 2 for p in network.parameters())


@pytest.mark.parametrize("depth", [3, 4])
def test_deeper_networks_generalize_with_the_minimal_trace(depth: int) -> None:
    x, y = xor_draw(10, 4, 1)
    network = relu.generalizing("bias", x, y, depth=depth)
    trace, loss = dense_trace(network, x, y)
    assert loss < 1e-24
    assert trace == pytest.approx(relu.minimal_trace("bias", x, y, depth=depth), rel=1e-9)
    torch.testing.assert_close(network(hypercube(4))[:, 0], hypercube(4)[:, :2].prod(1))


def test_a_single_sample_and_inputs_of_unequal_length() -> None:
    for architecture in ("no-bias", "bias", "layernorm"):
        x, y = torch.tensor([[300.0, -4.0]], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
        trace, loss = dense_trace(relu.memorizing(architecture, x, y), x, y)
        assert loss < 1e-20
        assert trace == pytest.approx(relu.minimal_trace(architecture, x, y), rel=1e-9)
    # The middle point is no extreme point, but its target is 0: nothing has to fire there.
    x = torch.tensor([[-1.0], [0.25], [5.0]], dtype=torch.float64)
    y = torch.tensor([1.0, 0.0, -3.0], dtype=torch.float64)
    trace, loss = dense_trace(relu.memorizing("bias", x, y), x, y)
    assert loss < 1e-20
    assert trace == pytest.approx(4 / 3 * (math.sqrt(2) + 3 * math.sqrt(26)))


@pytest.mark.parametrize("d", [3, 5])
def test_without_bias_four_neurons_have_the_least_trace_on_the_whole_hypercube(d: int) -> None:
    x = hypercube(d)
    y = 1.5 * x[:, 0] * x[:, 1]
    network = relu.generalizing("no-bias", x, y)
    trace, loss = dense_trace(network, x, y)
    assert loss < 1e-24
    assert never_at_a_kink(network, x)
    assert trace == pytest.approx(1.5 * 4 * math.sqrt(2 * d), rel=1e-6)
    assert trace == pytest.approx(math.sqrt(2) * relu.minimal_trace("no-bias", x, y), rel=1e-6)
    # The two facts that make it least. First, the trace of any network is sum_j d w_j^2 + ||a_j||^2 here.
    model = MODELS.build("shallow:no-bias,width=6").build((d,), 1, seed=2).double()
    first, head = (p.detach() for p in model.parameters())
    wanted = float(d * head.square().sum() + first.square().sum())
    assert relu.trace_at_interpolation(model, x) == pytest.approx(wanted, rel=1e-12)
    # Second, no neuron has more of the target in it than ||a|| / (2 sqrt 2).
    a = torch.randn(2000, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = torch.cat([a * torch.logspace(0, -3, d, dtype=torch.float64), first, network.layers[0].weight.detach()])
    share = (x[:, :2].prod(1)[:, None] * (x @ a.T).relu()).mean(0).abs() / a.norm(dim=1)
    assert float(share.max()) == pytest.approx(1 / (2 * math.sqrt(2)), rel=1e-6)
    assert float(share.max()) < (1 + 1e-6) / (2 * math.sqrt(2))


def least_found(architecture: str, x: Tensor, y: Tensor, width: int, seed: int) -> float:
    """The least trace that SciPy's BFGS meets among networks that interpolate, from one random start.

    The head is a free vector projected on the heads that interpolate, so that every point of the search interpolates.
    """
    model = MODELS.build(f"shallow:{architecture},width={width},epsilon=0.01").build(tuple(x.shape[1:]), 1, seed=seed)
    model = model.double()
    if architecture == "batchnorm":
        model.normalize_over(x)
    start = 2 * parameters_to_vector(model.parameters()).detach()
    met = []

    def trace(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(numbers).requires_grad_()
        pieces = w.split([p.numel() for p in model.parameters()])
        named = {n: piece.view(p.shape) for (n, p), piece in zip(model.named_parameters(), pieces, strict=True)}
        heads = torch.eye(width, dtype=torch.float64)[:, None]
        hidden = torch.cat([functional_call(model, named | {"head.weight": head}, (x,)) for head in heads], 1)
        free = named["head.weight"][0]
        named["head.weight"] = (free + torch.linalg.pinv(hidden, rtol=1e-9) @ (y - hidden @ free))[None]
        f = functional_call(model, named, (x,))[:, 0]
        # Its own level of differentiation, in which the head does not depend on the other parameters.
        rows = jacrev(lambda named: functional_call(model, named, (x,))[:, 0])(named)
        value = 2 / len(x) * sum(row.square().sum() for row in rows.values())
        if float((f - y).detach().abs().max()) < 1e-9:
            met.append(float(value.detach()))
        return float(value.detach()), torch.autograd.grad(value, w)[0].numpy()

    with np.errstate(all="ignore"):
        minimize(trace, start.numpy(), jac=True, method="BFGS", options={"maxiter": 60})
    return min(met, default=math.inf)


@pytest.mark.parametrize(
    ("architecture", "data"),
    [*((name, data) for name in ARCHITECTURES for data in ("three", "two")), ("batchnorm", "corners")],
)
def test_numeric_minimisation_never_ends_below_the_minimum(architecture: str, data: str) -> None:
    if data == "corners":
        x = hypercube(2)
        y = x[:, 0] * x[:, 1]
    else:
        x, y = normal(3, 3, 5) if data == "three" else normal(2, 4, 11)
    found = [least_found(architecture, x, y, width=6, seed=seed) for seed in (0, 3)]
    least = relu.minimal_trace(architecture, x, y, epsilon=0.01)
    assert min(found) >= least * (1 - 1e-7)
    assert min(found) <= least * 1.25  # so near that it could have been undercut


@pytest.mark.parametrize("seed", range(2))
def test_the_trace_lemma_and_smoothed_labels(seed: int) -> None:
    x, y = xor_draw(10, 4, seed)
    p = 0.2
    target = math.log((1 - p) / p)
    logistic = Logistic(smoothing=p)
    assert logistic.target == pytest.approx(target)
    for network in (relu.memorizing("bias", x, target * y), relu.generalizing("bias", x, target * y)):
        wanted = relu.minimal_trace("bias", x, target * y)
        assert relu.trace_at_interpolation(network, x) == pytest.approx(wanted, rel=1e-9)
        trace, _ = dense_trace(network, x, y, lambda f, y: logistic(f[:, None], y[:, None]))
        assert trace == pytest.approx(p * (1 - p) / 2 * wanted, rel=1e-9)


def test_the_trace_at_interpolation_is_that_of_the_gauss_newton_matrix_elsewhere() -> None:
    x, _ = normal(5, 3, 0)
    model = MODELS.build("shallow:bias,width=4,activation=softplus").build((3,), 1).double()
    outputs = model(x)[:, 0]
    jacobian = [torch.autograd.grad(f, list(model.parameters()), retain_graph=True) for f in outputs]
    wanted = 2 / 5 * sum(float(g.square().sum()) for row in jacobian for g in row)
    assert relu.trace_at_interpolation(model, x) == pytest.approx(wanted, rel=1e-12)
    trace, _ = dense_trace(model, x, outputs.detach())
    assert trace == pytest.approx(wanted, rel=1e-12)
