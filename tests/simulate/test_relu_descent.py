"""Compiled steps on ReLU networks against the PyTorch optimizers, step by step, in float64."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from edgescope.data import DATA
from edgescope.errors import EdgescopeError, InputError
from edgescope.losses import HalfMSE, Logistic, Loss, SquaredError
from edgescope.models import MODELS
from edgescope.models.shallow import ShallowNetwork
from edgescope.optim import SAM, LabelNoiseSGD
from edgescope.simulate.relu import ReluDescent, advance_together
from edgescope.simulate.relu_steps import activate
from edgescope.theory import relu

STEPS = 1000
SIZE, SAMPLES = 7, 12


def network(spec: str, seed: int = 0) -> ShallowNetwork:
    model = MODELS.build(f"shallow:{spec}").build((SIZE,), 1, seed).double()
    assert isinstance(model, ShallowNetwork)
    return model


def samples(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = DATA.build(f"xor:dim={SIZE},train={SAMPLES},seed={seed}").load()
    return data.inputs.double(), data.targets.double()


def by_torch(
    model: ShallowNetwork, loss: Loss, x: torch.Tensor, order: np.ndarray, targets: np.ndarray, **options: Any
) -> ShallowNetwork:
    """The same steps by the optimizers that everybody knows; batch normalisation over the whole training set."""
    if hasattr(model.norm, "running_var"):
        model.normalize_over(x)
    rho = options.pop("rho", None)
    parameters = model.parameters()
    optimizer: Any = torch.optim.SGD(parameters, **options) if rho is None else SAM(parameters, rho=rho, **options)
    for i, target in zip(order.tolist(), targets.tolist(), strict=True):
        wanted = torch.tensor([[target]], dtype=torch.float64)

        def closure(i: int = i, wanted: torch.Tensor = wanted) -> torch.Tensor:
            optimizer.zero_grad()
            found = loss(model(x[i : i + 1]), wanted)
            found.backward()
            return found

        optimizer.step(closure)
    return model


ARCHITECTURES = {
    "no-bias": "architecture=no-bias,width=22",
    "bias": "architecture=bias,width=22",
    "batchnorm": "architecture=batchnorm,width=18",
    "layernorm": "architecture=layernorm,width=22",
    "layernorm-short": "architecture=layernorm,width=22,epsilon=0.7,first=0.2",
    "softplus": "architecture=bias,width=22,activation=softplus",
    "deep": "architecture=bias,width=18,depth=3",
    "deep-softplus": "architecture=no-bias,width=13,depth=3,activation=softplus",
}
WAYS: dict[str, tuple[Loss, dict[str, float]]] = {
    "sam": (SquaredError(), {"rho": 0.1}),
    "sgd": (SquaredError(), {}),
    "sam-logistic-decay": (Logistic(0.2), {"rho": 0.2, "weight_decay": 0.01}),
}


CASES = [(name, "sam") for name in ARCHITECTURES]
CASES += itertools.product(("layernorm", "batchnorm", "deep"), ("sgd", "sam-logistic-decay"))


@pytest.mark.parametrize(("name", "way"), CASES)
def test_a_thousand_steps_are_those_of_pytorch(name: str, way: str) -> None:
    seed = CASES.index((name, way))
    x, y = samples(seed)
    loss, options = WAYS[way]
    rng = np.random.default_rng(seed)
    order = rng.integers(SAMPLES, size=STEPS)
    targets = y[order, 0].numpy() * (1.0 if way == "sam-logistic-decay" else 1 + 0.3 * rng.standard_normal(STEPS))
    start = network(ARCHITECTURES[name], seed)
    descent = ReluDescent(start, x, y, lr=0.01, loss=loss, **options)
    descent.train_on(order[:400], targets[:400])
    descent.train_on(order[400:], targets[400:])
    wanted = by_torch(network(ARCHITECTURES[name], seed), loss, x, order, targets, lr=0.01, **options)
    found = dict(descent.network.named_parameters())
    moved = 0.0
    for key, parameter in wanted.named_parameters():
        torch.testing.assert_close(found[key], parameter, rtol=0, atol=1e-9)
        moved += float((parameter - dict(start.named_parameters())[key]).detach().abs().sum())
    assert moved > 0.1
    assert descent.steps == STEPS


def test_softplus_is_that_of_numpy_and_passes_on_what_is_not_finite() -> None:
    z = np.concatenate([np.linspace(-60, 60, 20_001), [np.inf, np.nan]])
    h, slope = np.empty_like(z), np.empty_like(z)
    activate(z, True, h, slope)
    np.testing.assert_allclose(h[:-2], np.logaddexp(0, z[:-2]), rtol=4e-14, atol=1e-17)
    np.testing.assert_allclose(slope[:-2], expit(z[:-2]), rtol=4e-14, atol=1e-17)
    assert h[-2] == np.inf
    assert np.isnan(h[-1])


def test_own_noise_is_that_of_the_optimizer_in_law_and_its_targets_are_fitted() -> None:
    x, y = samples(0)
    seen: list[np.ndarray] = []

    class Listening(ReluDescent):
        def train_on(self, order: np.ndarray, targets: np.ndarray) -> ReluDescent:
            seen.append(np.stack([order, targets, y[order, 0].numpy()]))
            return super().train_on(order, targets)

    start = network(ARCHITECTURES["bias"])
    Listening(start, x, y, lr=0.001, sigma=0.5).advance(4000)
    Listening(start, x, y, lr=0.001, flip=0.3, loss=Logistic(0.1)).advance(4000)
    (order, noisy, clean), (_, flipped, kept) = seen
    assert set(np.round(noisy - clean, 12)) == {-0.5, 0.5}
    assert abs((noisy - clean).mean()) < 4 * 0.5 / 4000**0.5
    assert abs((flipped == -kept).mean() - 0.3) < 4 * (0.21 / 4000) ** 0.5
    counts = np.bincount(order.astype(int), minlength=SAMPLES)
    assert ((counts - 4000 / SAMPLES) ** 2 * SAMPLES / 4000).sum() < 35  # chi-squared, 11 degrees of freedom
    wanted = by_torch(network(ARCHITECTURES["bias"]), SquaredError(), x, order.astype(int), noisy, lr=0.001)
    plain = LabelNoiseSGD(wanted.parameters(), lr=0.001, sigma=0.5)
    assert isinstance(plain, torch.optim.SGD)  # whose step on noisy targets is the one compared here
    found = ReluDescent(start, x, y, lr=0.001).train_on(order.astype(int), noisy).network
    torch.testing.assert_close(found.head.weight, wanted.head.weight, rtol=0, atol=1e-9)


def test_the_samples_do_not_depend_on_how_steps_are_called_nor_on_threads() -> None:
    x, y = samples(1)
    options: dict[str, Any] = {"lr": 0.02, "rho": 0.05}

    def make() -> list[ReluDescent]:
        return [ReluDescent(network(ARCHITECTURES["bias"], s), x, y, seed=s, **options) for s in range(3)]

    whole, parts, resumed = make(), make(), make()
    advance_together(whole, 700, threads=3)
    for part, fresh in zip(parts, resumed, strict=True):
        part.advance(300)
        fresh.load_state(part.state())
        part.advance(0).advance(400)
        fresh.advance(400)
    for one, other, third in zip(whole, parts, resumed, strict=True):
        assert torch.equal(one.network.layers[0].weight, other.network.layers[0].weight)
        assert torch.equal(one.network.head.weight, third.network.head.weight)
        assert one.steps == other.steps == third.steps == 700
    assert not torch.equal(whole[0].network.head.weight, whole[1].network.head.weight)


def test_the_model_that_was_given_stays_and_single_precision_is_taken() -> None:
    x, y = samples(2)
    model = network(ARCHITECTURES["layernorm"]).float()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    descent = ReluDescent(model, x.float().numpy(), y.numpy(), lr=0.05, rho=0.1).advance(50)
    assert all(torch.equal(p, before[name]) and p.dtype == torch.float32 for name, p in model.named_parameters())
    assert descent.network.head.weight.dtype == torch.float64


def test_a_zero_gradient_moves_nothing() -> None:
    x, y = samples(3)
    for name in ("bias", "layernorm", "batchnorm", "deep"):
        model = network(ARCHITECTURES[name])
        with torch.no_grad():
            model.layers[0].bias.fill_(-100.0)  # silent at every sample, so that no weight matters
        descent = ReluDescent(model, x, y, lr=0.1, rho=0.5).advance(50)
        assert descent.finite
        for before, after in zip(model.parameters(), descent.network.parameters(), strict=True):
            assert torch.equal(before, after)


def test_label_noise_finds_the_least_trace() -> None:
    """Damian, Ma, Lee (2021): label noise minimises the trace among interpolators, up to its own noise."""
    x, y = samples(4)
    distinct = torch.unique(torch.cat([x, y], 1), dim=0)
    x, y = distinct[:, :-1], distinct[:, -1]
    descent = ReluDescent(network("architecture=bias,width=40"), x, y, lr=0.01, sigma=0.3).advance(2000)
    early = relu.trace_at_interpolation(descent.network, x)
    descent.advance(400_000)
    late = relu.trace_at_interpolation(descent.network, x)
    least = relu.minimal_trace("bias", x, y)
    assert early > 1.15 * least
    assert abs(late / least - 1) < 0.05


def test_a_run_that_diverges_is_seen() -> None:
    x, y = samples(5)
    descent = ReluDescent(network(ARCHITECTURES["bias"]), x, y, lr=5.0).advance(200)
    assert not descent.finite
    assert ReluDescent(network(ARCHITECTURES["bias"]), x, y, lr=0.001).advance(50).finite


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "rho-zero": ("bias", {"rho": 0.0}, "rho=0"),
    "rho-negative": ("bias", {"rho": -0.1}, "rho=-0.1"),
    "rate": ("bias", {"lr": float("nan")}, "lr=nan"),
    "sigma": ("bias", {"sigma": 0.0}, "sigma=0"),
    "flip": ("bias", {"flip": 1.0}, "flip=1"),
    "both": ("bias", {"sigma": 0.1, "flip": 0.1}, "both sigma and flip"),
    "decay": ("bias", {"weight_decay": -1.0}, "weight_decay=-1"),
    "loss": ("bias", {"loss": HalfMSE()}, "HalfMSE"),
}


@pytest.mark.parametrize("case", BAD)
def test_options_that_cannot_be_used_are_named(case: str) -> None:
    name, options, fault = BAD[case]
    x, y = samples(0)
    with pytest.raises(InputError, match=fault) as caught:
        ReluDescent(network(ARCHITECTURES[name]), x, y, **{"lr": 0.01} | options)
    assert "\n" not in str(caught.value)


def test_networks_and_data_that_cannot_be_used_are_named() -> None:
    x, y = samples(0)

    def refused(model: Any, x: Any, y: Any, fault: str, **options: Any) -> None:
        with pytest.raises(EdgescopeError, match=fault) as caught:
            ReluDescent(model, x, y, lr=0.01, **options)
        assert "\n" not in str(caught.value)

    bias = network(ARCHITECTURES["bias"])
    refused(torch.nn.Linear(SIZE, 1), x, y, "a Linear")
    refused(network("architecture=bias,width=5,depth=4"), x, y, "4 layers")
    refused(network("architecture=bias,width=5,activation=tanh"), x, y, "Tanh")
    refused(network("architecture=batchnorm,width=5,activation=softplus"), x, y, "softplus")
    refused(MODELS.build("shallow:width=5").build((SIZE,), 2, 0), x, y, "one output")
    refused(network(ARCHITECTURES["batchnorm"]), x[:1], y[:1], "a batch of 1")
    wide = MODELS.build("shallow:architecture=batchnorm,width=200").build((800,), 1, 0)
    refused(wide, torch.ones(3, 800), torch.ones(3), "200 neurons in 800 dimensions")
    refused(bias, x[:, :3], y, r"\(n, 7\)")
    refused(bias, x, y[:3], "targets of shape")
    refused(bias, x * float("inf"), y, "NaN or infinite")
    refused(bias, x, 2 * y, "targets of -1 and 1", loss=Logistic(0.1))
    descent = ReluDescent(bias, x, y, lr=0.01)
    for order, targets in ((np.array([0, SAMPLES]), np.zeros(2)), (np.array([0]), np.zeros(2))):
        with pytest.raises(InputError, match="indices below 12"):
            descent.train_on(order, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert descent.train_on(np.array([], dtype=int), np.array([])).steps == 0
