"""Second derivatives of every model, in every mode, against differences of gradients in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector

from edgescope.losses import cross_entropy, half_mse
from edgescope.models import MODELS

# torch's own forward-mode derivatives use what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

TINY = [
    ("mlp:widths=4x3", (5,)),
    ("mlp:widths=4,activation=softplus", (5,)),
    ("cnn:channels=2x2,activation=gelu", (1, 4, 4)),
    ("cnn:channels=2,pool=max,activation=tanh", (1, 4, 4)),
    ("resnet:widths=2x3,activation=gelu", (1, 4, 4)),
    ("vit:patch=2,width=4,heads=2,depth=1", (1, 4, 4)),
    ("gpt:width=4,heads=2,depth=1", (3,)),
    ("encoder:width=4,heads=2", (4,)),
]


def problem(spec: str, shape: tuple[int, ...], criterion: str, seed: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The loss of a tiny model as a function of its flat parameters, and these parameters, in float64."""
    model = MODELS.build(spec).build(shape, 3, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    tokens = spec.startswith("gpt")
    if tokens:
        inputs = torch.randint(3, (4, *shape), generator=generator)
    else:
        inputs = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (4, *shape) if tokens else (4,), generator=generator)
    # Away from the start, where the second derivatives of a GPT with weights of 0.02 are tiny.
    w = parameters_to_vector(model.parameters()).detach()
    w = w + 0.3 * torch.randn(len(w), generator=generator, dtype=torch.float64)
    shapes = [(name, p.shape) for name, p in model.named_parameters()]

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([s.numel() for _, s in shapes])
        named = {name: piece.view(s) for (name, s), piece in zip(shapes, pieces, strict=True)}
        outputs = functional_call(model, named, (inputs,))
        return {"mse": half_mse, "cross-entropy": cross_entropy}[criterion](outputs, targets)

    return loss, w


@pytest.mark.parametrize("criterion", ["mse", "cross-entropy"])
@pytest.mark.parametrize(("spec", "shape"), TINY)
def test_second_derivatives_are_right(spec: str, shape: tuple[int, ...], criterion: str) -> None:
    loss, w = problem(spec, shape, criterion, seed=len(criterion))

    def product(v: Tensor) -> Tensor:
        # `grad`, not `jacrev`: torch differentiates the mapped derivative of LayerNorm wrongly.
        return jvp(grad(loss), (w,), (v,))[1]

    with sdpa_kernel(SDPBackend.MATH):
        point = w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)
        dense = torch.stack([torch.autograd.grad(entry, point, retain_graph=True)[0] for entry in gradient])
        largest = float(dense.abs().max())
        assert largest > 1e-3
        torch.testing.assert_close(dense, dense.T, rtol=1e-9, atol=1e-10 * largest)
        block = torch.randn(len(w), 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        wanted = dense @ block
        for v, column in zip(block.T, wanted.T, strict=True):
            differences = (grad(loss)(w + 1e-5 * v) - grad(loss)(w - 1e-5 * v)) / 2e-5
            torch.testing.assert_close(column, differences, rtol=1e-5, atol=1e-6 * float(column.abs().max()))
            torch.testing.assert_close(product(v), column, rtol=1e-9, atol=1e-10 * largest)
        torch.testing.assert_close(vmap(product, 1, 1)(block), wanted, rtol=1e-9, atol=1e-10 * largest)
