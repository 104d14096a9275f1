"""The architectures on which flatness is compared, against formulas, and their curvature against dense Hessians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from edgescope.errors import InputError, UnknownNameError
from edgescope.losses import LOSSES, supervised
from edgescope.models import MODELS, parameter_count
from edgescope.models.shallow import known_architecture
from edgescope.models.simplified_norm import SimplifiedBatchNorm
from edgescope.objective import Objective

ARCHITECTURES = ["no-bias", "bias", "batchnorm", "layernorm"]


def build(spec: str, seed: int = 0, d: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    model = MODELS.build(f"shallow:{spec}").build((d,), 1, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(7, size, generator=generator, dtype=torch.float64) for size in (d, 1))
    return model, x, y


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["relu", "softplus"])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_networks_are_their_formulas(architecture: str, activation: str, depth: int) -> None:
    spec = f"{architecture},width=6,depth={depth},activation={activation},epsilon=0.9"
    model, x, _ = build(spec, seed=1)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    act = {"relu": lambda z: np.maximum(z, 0), "softplus": lambda z: np.logaddexp(z, 0)}[activation]
    z = x.numpy() @ state["layers.0.weight"].T
    assert ("layers.0.bias" in state) == (architecture != "no-bias")
    h = act(z + state.get("layers.0.bias", 0.0))
    for k in range(1, depth - 1):
        assert f"layers.{k}.bias" not in state
        h = act(h @ state[f"layers.{k}.weight"].T)
    if architecture == "batchnorm":
        rms = np.sqrt((h**2).mean(0))
        h = state["norm.weight"] * np.divide(h, rms, out=np.zeros_like(h), where=rms > 0)
    if architecture == "layernorm":
        lengths = np.linalg.norm(h, axis=1, keepdims=True)
        assert lengths.min() < 0.9 < lengths.max() or depth == 3 or activation == "softplus"
        h = h / np.maximum(lengths, 0.9)
    assert "head.bias" not in state
    np.testing.assert_allclose(model(x).detach().numpy(), h @ state["head.weight"].T, rtol=1e-12, atol=1e-14)


def test_sizes_and_the_smaller_first_layer() -> None:
    assert parameter_count(MODELS.build("shallow").build((30,), 1)) == 500 * 32
    assert parameter_count(MODELS.build("shallow:no-bias").build((30,), 1)) == 500 * 31
    assert parameter_count(MODELS.build("shallow:batchnorm").build((30,), 1)) == 500 * 33
    assert parameter_count(MODELS.build("shallow:depth=3,width=20").build((30,), 1)) == 20 * 32 + 400
    plain, small = (MODELS.build(f"shallow:layernorm,first={f}").build((30,), 1, seed=4) for f in (1.0, 0.01))
    torch.testing.assert_close(small.layers[0].weight, plain.layers[0].weight / 100)
    torch.testing.assert_close(small.layers[0].bias, plain.layers[0].bias / 100)
    assert torch.equal(small.head.weight, plain.head.weight)


def test_batch_normalisation_over_the_training_set_is_the_same_for_every_batch_and_mode() -> None:
    model, x, _ = build("batchnorm,width=6")
    whole = model(x)
    model.normalize_over(x)
    torch.testing.assert_close(model(x), whole)
    torch.testing.assert_close(torch.cat([model(sample) for sample in x.split(1)]), whole)
    torch.testing.assert_close(model.eval()(x[:3]), whole[:3])
    fresh = MODELS.build("shallow:batchnorm,width=6").build((3,), 1).double()
    with pytest.raises(RuntimeError, match="reference"):  # not forgotten without a word
        fresh.load_state_dict(model.state_dict())


def test_running_statistics_are_means_of_squares() -> None:
    norm = SimplifiedBatchNorm(2).double()
    batches = torch.randn(60, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.ones(2, dtype=torch.float64)
    for h in batches:
        out = norm(h)
        torch.testing.assert_close(out.square().mean(0), torch.ones(2, dtype=torch.float64))
        wanted = 0.9 * wanted + 0.1 * h.square().mean(0)
    torch.testing.assert_close(norm.running_var, wanted)
    torch.testing.assert_close(norm.eval()(batches[0]), batches[0] / wanted.sqrt())
    assert int(norm.num_batches_tracked) == 60
    assert torch.equal(norm.running_mean, torch.zeros(2, dtype=torch.float64))


def test_silent_neurons_and_silent_samples_give_zeros_and_finite_gradients() -> None:
    for architecture in ("batchnorm", "layernorm"):
        model, x, y = build(f"{architecture},width=6")
        with torch.no_grad():
            model.layers[0].bias.fill_(-100.0)
        loss = (model(x) - y).square().mean()
        loss.backward()
        assert torch.equal(model(x), torch.zeros(7, 1, dtype=torch.float64))
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("over", ["the batch", "the training set"])
def test_objectives_measure_their_curvature(architecture: str, over: str) -> None:
    if over == "the training set" and architecture != "batchnorm":
        return
    model, x, y = build(f"{architecture},width=4")
    if over == "the training set":
        model.normalize_over(x)
    objective = Objective(model, supervised(LOSSES.build("squared")), (x, y), mode="train", path="kept", threads=1)
    w = parameters_to_vector(model.parameters()).detach()
    step = 1e-6 * torch.randn(len(w), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    before = model.state_dict()["norm.running_var"].clone() if architecture == "batchnorm" else None
    differences = (objective.gradient(w + step) - objective.gradient(w - step)) / 2
    torch.testing.assert_close(objective.hvp(step, w), differences, rtol=1e-6, atol=1e-12)
    residual = model(x) - y
    torch.testing.assert_close(objective.loss(), residual.square().mean().detach())
    if before is not None and over == "the training set":
        assert torch.equal(model.state_dict()["norm.running_var"], before)


def test_bad_options_are_named() -> None:
    for spec, fault in (
        ("bais", "try 'bias'"),
        ("bias,width=0", "'shallow' with width=0"),
        ("bias,depth=1", "'shallow' with depth=1; expected a whole number from 2"),
        ("layernorm,epsilon=0", "'shallow' with epsilon=0"),
        ("bias,first=nan", "'shallow' with first=nan"),
    ):
        with pytest.raises(InputError, match=fault) as caught:
            MODELS.build(f"shallow:{spec}").build((3,), 1)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="try 'layernorm'"):
        known_architecture("layer-norm")
    with pytest.raises(UnknownNameError, match="try 'batchnorm'"):
        MODELS["shallow"](architecture="BatchNorm")  # type: ignore[call-arg]


def test_batch_normalisation_of_one_sample_is_refused() -> None:
    model, x, _ = build("batchnorm,width=4")
    with pytest.raises(
        InputError, match=r"batch of 1 in training mode; expected at least 2 samples; try normalize_over"
    ):
        model(x[:1])
    assert model.eval()(x[:1]).shape == (1, 1)
    with pytest.raises(InputError, match="over a batch of 1"):
        model.normalize_over(x[:1])
    with pytest.raises(InputError, match="without batch normalisation"):
        build("bias,width=4")[0].normalize_over(x)
