"""The path norm against the sum over all paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from measured_models import FLOATS, TwoLayers, moment_of
from torch import Tensor, nn

from edgescope.losses import half_mse
from edgescope.measures import MEASURES


def by_enumeration(model: nn.Sequential) -> float:
    """The path norm of a fully connected network: every path from an input or a bias, one by one."""
    layers = [part for part in model if isinstance(part, nn.Linear)]
    total = 0.0
    for depth, layer in enumerate(layers):
        sources = range(layer.in_features) if depth == 0 else ()
        weights = layer.weight.detach().double()
        starts = [[weights[j, i].item() for i in sources] for j in range(layer.out_features)]
        if layer.bias is not None:
            for j, start in enumerate(starts):
                start.append(layer.bias[j].item())
        widths = [range(later.out_features) for later in layers[depth + 1 :]]
        for j, start in enumerate(starts):
            for first, rest in itertools.product(start, itertools.product(*widths)):
                product, at = first, j
                for later, to in zip(layers[depth + 1 :], rest, strict=True):
                    product *= later.weight[to, at].item()
                    at = to
                total += product**2
    return math.sqrt(total)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("bias", [True, False])
def test_path_norm_is_that_of_all_paths(kind: type[nn.Module], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    data = torch.randn(5, 4, dtype=dtype), torch.randint(2, (5,))
    layers = [nn.Linear(4, 3, bias), kind(), nn.Linear(3, 3, bias), kind(), nn.Linear(3, 2, bias)]
    model = nn.Sequential(*layers, nn.Dropout(0.5)).to(dtype)
    before = [p.clone() for p in model.parameters()]
    moment = moment_of(model, data)
    reading = MEASURES.build("path_norm").take(moment)
    assert reading.values[""] == pytest.approx(by_enumeration(model), rel=1e-9)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert isinstance(model[1], kind)


def test_path_norm_of_a_convolution_is_that_of_the_matrix_it_is() -> None:
    torch.manual_seed(0)
    conv, head = nn.Conv2d(1, 2, 3, bias=False).double(), nn.Linear(2, 2, bias=False).double()
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head)
    reading = MEASURES.build("path_norm").take(
        moment_of(model, (torch.randn(4, 1, 3, 3).double(), torch.randint(2, (4,))))
    )
    matrix = conv.weight.detach().reshape(2, 9)
    exact = (head.weight.detach() ** 2 @ matrix**2).sum().sqrt()
    assert reading.values[""] == pytest.approx(float(exact))


class Squeezed(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 3)), "LayerNorm ('1')"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "BatchNorm1d ('1')"),
        (Squeezed(1.0), "not homogeneous"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 3)), "not homogeneous"),
    ],
    ids=["layer", "batch", "called", "softplus"],
)
def test_path_norm_of_other_networks_is_a_note(model: nn.Module, words: str) -> None:
    data = torch.randn(6, 4), torch.randint(3, (6,))
    reading = MEASURES.build("path_norm").take(moment_of(model.float(), data))
    assert reading.values == {}
    assert words in reading.note
    assert "\n" not in reading.note


def test_path_norm_of_a_loss_that_hides_the_outputs_is_a_note() -> None:
    model, data = nn.Linear(3, 2), (torch.randn(6, 3), torch.randint(2, (6,)))
    moment = moment_of(model, data, loss_fn=lambda m, batch: half_mse(m(batch[0]), batch[1]))
    assert "try edgescope.supervised" in MEASURES.build("path_norm").take(moment).note
