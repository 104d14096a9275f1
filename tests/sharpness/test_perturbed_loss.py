"""The loss at perturbed weights: against torch's own quantizer, closed forms on quadratics, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import InputError
from edgescope.sharpness import perturbed_losses
from edgescope.sharpness.perturbed_loss import round_rows


class Bowl(nn.Module):
    """Two tensors w, b with the loss (a ||w||^2 + c ||b||^2) / 2, whatever the data."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(5, 40, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(0.01 * torch.randn(60, generator=generator, dtype=torch.float64))


def bowl(seed: int = 0, a: float = 3.0, c: float = 500.0) -> es.Objective:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return (a * model.w.square().sum() + c * model.b.square().sum()) / 2 + 0 * batch.sum()  # type: ignore[union-attr, operator]

    return es.Objective(Bowl(seed), loss, torch.zeros(4, 1, dtype=torch.float64), threads=1)


@given(st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_rounding_is_that_of_torch(bits: int, seed: int) -> None:
    weights = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed))
    most = 2 ** (bits - 1) - 1
    scale = weights.flatten(1).abs().amax(1) / most
    zero = torch.zeros(4, dtype=torch.int32)
    wanted = torch.fake_quantize_per_channel_affine(weights, scale, zero, 0, -most, most)
    found = round_rows(weights, bits)
    # torch multiplies by the inverse of the scale, so that a tie may go the other way.
    ties = ((weights.flatten(1) / scale[:, None]).frac().abs() - 0.5).abs() < 1e-5
    assert torch.allclose(found.flatten(1)[~ties], wanted.flatten(1)[~ties], rtol=1e-6, atol=0)


def test_vectors_and_rows_of_zeros_stay() -> None:
    vector, zeros = torch.randn(7), torch.zeros(2, 3)
    assert torch.equal(round_rows(vector, 4), vector)
    assert torch.equal(round_rows(zeros, 4), zeros)


@pytest.mark.parametrize("seed", range(3))
def test_increase_on_a_quadratic(seed: int) -> None:
    objective = bowl(seed)
    model = objective.model
    w, b = model.w.detach(), model.b.detach()  # type: ignore[union-attr]
    rounding, noise = perturbed_losses(objective, bits=[3], noise=[0.1], draws=300, seed=seed)
    rounded = round_rows(w, 3)  # type: ignore[arg-type]
    assert rounding.increase.value == pytest.approx(1.5 * float(rounded.square().sum() - w.square().sum()), rel=1e-9)
    norm = math.sqrt(float(w.square().sum() + b.square().sum()))
    assert rounding.distance == pytest.approx(float((rounded - w).norm()) / norm)
    # In the mean each tensor adds half its curvature times the sum of its variances, 0.1^2 times its squared norm.
    wanted = 0.01 * float(3.0 * w.square().sum() + 500.0 * b.square().sum()) / 2
    reach = 2 * noise.increase.half_width  # four standard errors
    assert abs(noise.increase.value - wanted) < reach < 0.1 * wanted
    assert noise.distance == pytest.approx(0.1, rel=0.05)
    assert noise.loss == pytest.approx(float(objective.loss()) + noise.increase.value)


def test_the_same_seed_gives_the_same_and_nothing_is_changed() -> None:
    objective = bowl()
    before, state = objective.parameters(), torch.get_rng_state()
    first, second = (perturbed_losses(objective, noise=[0.02], draws=4, seed=3) for _ in range(2))
    spent = objective.spent
    third = perturbed_losses(objective, bits=[3, 4], noise=[0.02, 0.1], draws=4, seed=3)
    assert sum(one.cost.losses for one in third) == (objective.spent - spent).losses
    assert [one.cost.losses for one in third[1:]] == [1, 8, 8]  # noise is added and subtracted
    assert [one.loss for one in first] == [one.loss for one in second]
    assert torch.equal(objective.parameters(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first[0].cost.losses, first[1].cost.losses) == (2, 8)  # the loss at the weights is counted with the first


def test_layers_may_be_rescaled() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, 2, bias=False)).double()
    data = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    found = []
    for factor in (1.0, 8.0):
        with torch.no_grad():
            model[0].weight.mul_(factor)  # type: ignore[operator, union-attr]
            model[2].weight.div_(factor)  # type: ignore[operator, union-attr]
        objective = es.Objective(model, es.supervised(nn.functional.mse_loss), data, threads=1)
        found.append([one.increase.value for one in perturbed_losses(objective, draws=3)])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": [1]}, "bits"),
        ({"bits": [40]}, "bits"),
        ({"noise": [0.0]}, "noise"),
        ({"noise": [math.nan]}, "noise"),
        ({"draws": 1}, "draws"),
        ({"seed": -1}, "seed"),
    ],
)
def test_meaningless_numbers_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        perturbed_losses(bowl(), **options)  # type: ignore[arg-type]


def test_a_loss_that_overflows_is_infinite() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return (1e30 * model.w.square().sum()).exp() if model.w.sum() != start else model.w.sum() ** 2  # type: ignore[union-attr, operator]

    model = Bowl(0)
    start = model.w.sum().detach()
    objective = es.Objective(model, loss, torch.zeros(4, 1, dtype=torch.float64), threads=1, check=False)
    (noise,) = perturbed_losses(objective, bits=[], noise=[0.1], draws=2)
    assert noise.increase.value == math.inf
