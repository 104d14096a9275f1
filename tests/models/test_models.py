from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgescope.errors import InputError
from edgescope.models import MODELS, parameter_count
from edgescope.models.transformer import Attention

IMAGE = (3, 16, 16)
SPECS = [
    ("mlp", IMAGE),
    ("mlp:widths=7,activation=softplus,bias=false", (5,)),
    ("mlp:widths=", (5,)),
    ("cnn", IMAGE),
    ("cnn:channels=4x5x6,pool=max,activation=tanh", (1, 9, 11)),
    ("resnet", IMAGE),
    ("resnet:widths=4x8,blocks=2,activation=gelu", (1, 7, 7)),
    ("vit", IMAGE),
    ("vit:patch=2,width=12,heads=3,depth=1", (1, 4, 6)),
    ("gpt", (8,)),
    ("gpt:width=12,heads=3,depth=1", (5,)),
    ("encoder:width=12,heads=3", (10,)),
    ("encoder:symbols=3,width=8,heads=2,depth=2,layernorm=false", (3, 4)),
]


def inputs_for(spec: str, shape: tuple[int, ...], outputs: int, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if spec.startswith("gpt"):
        return torch.randint(outputs, (count, *shape), generator=generator)
    return torch.randn(count, *shape, generator=generator)


@pytest.mark.parametrize(("spec", "shape"), SPECS)
def test_outputs_have_the_shape_asked_for(spec: str, shape: tuple[int, ...]) -> None:
    outputs = MODELS.build(spec).build(shape, 4)(inputs_for(spec, shape, 4))
    assert outputs.shape == ((3, *shape, 4) if spec.startswith("gpt") else (3, 4))
    assert outputs.dtype == torch.float32


@pytest.mark.parametrize(("spec", "shape"), SPECS)
def test_the_seed_decides_and_the_random_state_is_untouched(spec: str, shape: tuple[int, ...]) -> None:
    config = MODELS.build(spec)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = config.build(shape, 4, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = config.build(shape, 4, seed=3), config.build(shape, 4, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("spec", "shape", "outputs", "count"),
    [
        ("mlp", (3, 32, 32), 10, 656_810),  # Cohen et al. (2021)
        ("mlp:widths=128x128", (3, 32, 32), 10, 411_146),  # Chen et al.'s multilayer network
        ("gpt", (64,), 65, 112_512),  # their transformer
        ("resnet:blocks=3", (3, 32, 32), 10, 272_474),  # ResNet-20 with projection shortcuts, He et al. (2016)
        ("cnn", (3, 32, 32), 10, 896 + 9248 + 20_490),
        ("mlp:widths=,bias=no", (5,), 4, 20),
    ],
)
def test_sizes_are_the_published_ones(spec: str, shape: tuple[int, ...], outputs: int, count: int) -> None:
    assert parameter_count(MODELS.build(spec).build(shape, outputs)) == count


def test_frozen_and_shared_parameters_are_counted_right() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert parameter_count(model) == 9 + 3


def test_an_mlp_is_products_and_activations() -> None:
    model = MODELS.build("mlp:widths=4x3").build((2, 1, 3), 2, seed=1).double()
    w1, b1, w2, b2, w3, b3 = (p.detach() for p in model.parameters())
    x = torch.randn(5, 2, 1, 3, dtype=torch.float64)
    wanted = ((x.flatten(1) @ w1.T + b1).tanh() @ w2.T + b2).tanh() @ w3.T + b3
    torch.testing.assert_close(model(x), wanted)


def test_an_mlp_has_pytorch_default_initialisation() -> None:
    model = MODELS.build("mlp:widths=6").build((5,), 3, seed=9)
    torch.manual_seed(9)
    first, last = nn.Linear(5, 6), nn.Linear(6, 3)
    wanted = [*first.parameters(), *last.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), wanted, strict=True))


def test_a_cnn_averages_unless_told_to_take_the_maximum() -> None:
    image = torch.randn(1, 1, 2, 2)
    conv = torch.zeros(1, 1, 3, 3)
    conv[0, 0, 1, 1] = 1.0  # the identity
    for pool, wanted in (("average", image.tanh().mean()), ("max", image.tanh().max())):
        model = MODELS.build(f"cnn:channels=1,activation=tanh,pool={pool}").build((1, 2, 2), 1)
        state = dict(zip(model.state_dict(), (conv, torch.zeros(1), torch.ones(1, 1), torch.zeros(1)), strict=True))
        model.load_state_dict(state)
        torch.testing.assert_close(model(image).squeeze(), wanted)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_agrees_with_torch(causal: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(6, 3, causal), nn.MultiheadAttention(6, 3, batch_first=True)
    for part in ("weight", "bias"):
        stacked = torch.cat([getattr(layer, part) for layer in (ours.query, ours.key, ours.value)])
        setattr(theirs, f"in_proj_{part}", nn.Parameter(stacked.detach()))
        setattr(theirs.out_proj, part, nn.Parameter(getattr(ours.out, part).detach()))
    x = torch.randn(2, 5, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=mask, need_weights=False)[0])


def test_gpt_does_not_look_ahead() -> None:
    model = MODELS.build("gpt:width=8,heads=2").build((6,), 5)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0]])
    changed = tokens.clone()
    changed[0, 4] = 1
    torch.testing.assert_close(model(tokens)[:, :4], model(changed)[:, :4])
    assert not torch.allclose(model(tokens)[:, 4:], model(changed)[:, 4:], atol=1e-4)


def test_gpt_starts_as_stated() -> None:
    model = MODELS.build("gpt").build((64,), 65)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert bool((parameter == (1.0 if name.endswith("weight") else 0.0)).all())
        elif name.endswith("bias"):
            assert not bool(parameter.any())
        else:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_an_encoder_sees_every_symbol_and_its_place() -> None:
    model = MODELS.build("encoder:symbols=3,width=8,heads=2").build((12,), 5)
    symbols = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 1, 2], [0, 3, 2], [0, 1, 3], [2, 1, 0]])]
    outputs = model(symbols.flatten(1)).detach()
    assert outputs.shape == (5, 5)
    assert all(float((outputs[0] - other).abs().max()) > 1e-4 for other in outputs[1:])
    with torch.no_grad():
        model.positions[:3] = model.positions[0]  # without places of their own the order no longer counts
    swapped = model(symbols.flatten(1)).detach()
    torch.testing.assert_close(swapped[0], swapped[4])


def test_vit_sees_every_patch_and_its_place() -> None:
    model = MODELS.build("vit:patch=2,width=8,heads=2").build((1, 4, 4), 3)
    image = torch.randn(1, 1, 4, 4)
    for row in range(4):
        for column in range(4):
            changed = image.clone()
            changed[0, 0, row, column] += 1
            assert not torch.allclose(model(image), model(changed), atol=1e-4)
    swapped = image.roll(2, dims=-1)
    assert not torch.allclose(model(image), model(swapped), atol=1e-5)


def test_resnet_halves_the_image_at_every_stage_but_the_first() -> None:
    model = MODELS.build("resnet:widths=4x6x8").build((1, 16, 16), 3)
    sizes = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    model(torch.randn(2, 1, 16, 16))
    stages = [shape for name, shape in sizes.items() if name.startswith("stage")]
    assert stages == [(4, 16, 16), (6, 8, 8), (8, 4, 4)]


@pytest.mark.parametrize(
    ("spec", "shape", "fault"),
    [
        ("cnn", (1, 3, 3), "3 x 3 pixels .* expected at least 4 x 4"),
        ("cnn", (64,), "images of shape"),
        ("cnn:channels=8x0", IMAGE, r"'cnn' with channels\[1\]=0"),
        ("resnet", (1, 3, 3), "3 x 3 pixels .* 3 stages; expected at least 4 x 4"),
        ("resnet:widths=", IMAGE, "without widths"),
        ("resnet:blocks=0", IMAGE, "'resnet' with blocks=0"),
        ("vit:patch=5", IMAGE, "patches of 5 x 5"),
        ("vit:heads=3", IMAGE, "width=64 for 3 heads"),
        ("vit:depth=0", IMAGE, "'vit' with depth=0"),
        ("gpt:heads=5", (8,), "width=64 for 5 heads"),
        ("gpt", IMAGE, "token sequences"),
        ("encoder", (5,), "symbols=2 for inputs of 5"),
        ("encoder:heads=3", (8,), "width=128 for 3 heads"),
        ("encoder:symbols=0", (8,), "'encoder' with symbols=0"),
        ("mlp:widths=10x-1", (5,), r"'mlp' with widths\[1\]=-1"),
        ("mlp", (), r"shape \(\)"),
        ("mlp", (5, 0), r"shape \(5, 0\)"),
    ],
)
def test_options_that_do_not_fit_are_named(spec: str, shape: tuple[int, ...], fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        MODELS.build(spec).build(shape, 4)
    assert "\n" not in str(caught.value)


def test_other_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="0 outputs"):
        MODELS.build("mlp").build((5,), 0)
    with pytest.raises(InputError, match="activation='swish'"):
        MODELS["mlp"](activation="swish").build((5,), 2)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="9 tokens for a gpt built for 8"):
        MODELS.build("gpt").build((8,), 5)(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(InputError, match="try 'resnet'"):
        MODELS.build("resent")


def test_an_untrained_classifier_is_near_chance() -> None:
    logits = MODELS.build("gpt").build((16,), 65)(torch.randint(65, (4, 16)))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(65, (64,)))
    assert float(loss.detach()) == pytest.approx(math.log(65), rel=0.02)
