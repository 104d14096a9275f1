"""Distributions that are known whole: their samplers and the error on all of them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor, nn

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.theory import relu


class Function(nn.Module):
    """A model that is a function of its inputs, and remembers the mode it was called in."""

    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function, self.modes = function, []
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        assert x.dtype == torch.float64
        return self.function(x)


def test_xor_is_uniform_on_the_hypercube() -> None:
    data = DATA.build("xor:dim=4,train=8000,test=50").load()
    assert data.inputs.dtype == data.targets.dtype == torch.float32
    assert data.inputs.shape == (8000, 4)
    assert data.test_targets.shape == (50, 1)
    assert torch.equal(data.targets[:, 0], data.inputs[:, 0] * data.inputs[:, 1])
    numbers = ((data.inputs > 0) * torch.tensor([1, 2, 4, 8])).sum(1)
    assert chisquare(torch.bincount(numbers, minlength=16)).pvalue > 1e-3
    assert (data.classes, data.real) == (1, True)
    assert "x_1 x_2, dimension 4, seed 0" in data.source


def test_the_ball_is_uniform() -> None:
    d = 10
    data = DATA.build("ball:train=4000").load()
    x = data.inputs.double()
    assert x.shape == (4000, d)
    torch.testing.assert_close(data.targets[:, 0], data.inputs[:, 0].abs() - data.inputs[:, 1].abs())
    share = (x.norm(dim=1) / math.sqrt(d)) ** d  # of the volume that is nearer to the centre
    assert kstest(share.numpy(), "uniform").pvalue > 1e-3
    angle = torch.atan2(x[:, 3], x[:, 7]) / (2 * math.pi) + 0.5
    assert kstest(angle.numpy(), "uniform").pvalue > 1e-3


def test_the_gaussian_teacher_has_the_correlations_it_states() -> None:
    data = DATA.build("teacher:dim=3,signals=0.9x-0.5,train=40000").load()
    both = torch.cat([data.inputs, data.targets], 1).double()
    expected = torch.eye(5, dtype=torch.float64)
    expected[0, 3] = expected[3, 0] = 0.9
    expected[1, 4] = expected[4, 1] = -0.5
    assert float((both.T @ both / len(both) - expected).abs().max()) < 6 / math.sqrt(len(both))
    assert (data.classes, data.real) == (2, True)
    best = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        best.weight.copy_(torch.tensor([[0.9, 0.0, 0.0], [0.0, -0.5, 0.0]]))
    found = DATA.build("teacher:dim=3,signals=0.9x-0.5").population_error(best, samples=40_000)  # type: ignore[attr-defined]
    assert abs(found.value - (0.19 + 0.75) / 2) < 5 * found.error < 0.03


def test_a_teacher_network_is_the_same_for_training_and_test_samples() -> None:
    source = DATA.build("teacher-network:dim=4,width=300,outputs=2,train=500,test=700,seed=5")
    data = source.load()
    assert (data.inputs.shape, data.targets.shape, data.test_targets.shape) == ((500, 4), (500, 2), (700, 2))
    for inputs, targets in ((data.inputs, data.targets), (data.test_inputs, data.test_targets)):
        torch.testing.assert_close(source.target(inputs[3:9]), targets[3:9])  # type: ignore[attr-defined]
    # Odd, bounded variance, and not linear: no linear map comes near it.
    torch.testing.assert_close(source.target(-data.inputs), -data.targets)  # type: ignore[attr-defined]
    rest = data.targets - data.inputs @ torch.linalg.lstsq(data.inputs, data.targets).solution
    assert 0.01 < float(rest.square().mean() / data.targets.square().mean()) < 0.5
    assert float(data.targets.square().mean()) < 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("teacher:signals=0.9x1.2", "signals=0.9x1.2"),
        ("teacher:dim=1", "dim=1"),
        ("teacher:signals=", "signals="),
        ("teacher-network:width=0", "width=0"),
        ("teacher-network:outputs=0", "outputs=0"),
        ("teacher-network:train=0", "train=0"),
    ],
)
def test_teachers_that_cannot_be(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        DATA.build(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["xor", "ball", "teacher", "teacher-network"])
def test_seeds_decide_and_test_samples_are_a_draw_of_their_own(name: str) -> None:
    first, again = DATA.build(f"{name}:seed=3").load(), DATA.build(f"{name}:seed=3").load()
    larger, other = DATA.build(f"{name}:seed=3,train=200").load(), DATA.build(f"{name}:seed=4").load()
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.test_inputs, larger.test_inputs)
    assert not torch.equal(first.inputs, other.inputs)
    assert not torch.equal(first.inputs, first.test_inputs[:100])
    state = torch.get_rng_state()
    DATA.build(name).load()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dim", [5, 30])
def test_the_population_error_of_known_functions_on_xor(dim: int) -> None:
    xor = DATA.build("xor", dim=dim)
    for function, wanted in (
        (lambda x: x[:, :1] * x[:, 1:2], 0.0),
        (lambda x: -x[:, :1] * x[:, 1:2], 1.0),
        (lambda x: 0 * x[:, :1], 1.0),  # zero is wrong
        (lambda x: x[:, :1], 0.5),
        (lambda x: x[:, :1] * x[:, 1:2] * (x[:, 2:4].sum(1, keepdim=True) > -1), 0.25),
    ):
        error = xor.population_error(Function(function), samples=4000)
        assert error.cost == (32 if dim == 5 else 4000)
        if dim == 5:
            assert (error.value, error.error) == (wanted, 0.0)
        else:
            assert abs(error.value - wanted) <= 4 * error.error
            assert error.error == pytest.approx(math.sqrt(wanted * (1 - wanted) / 4000), rel=0.05)


def test_a_memorizing_network_knows_its_samples_and_no_others() -> None:
    xor = DATA.build("xor:dim=6,train=12,seed=1")
    data = xor.load()
    distinct = data.inputs.unique(dim=0)
    network = relu.memorizing("bias", distinct, xor.target(distinct))
    error = xor.population_error(network)
    assert error.value == 1 - len(distinct) / 64
    assert (error.error, error.cost) == (0.0, 64)
    assert xor.population_error(relu.generalizing("bias", distinct, xor.target(distinct))).value == 0.0


def test_the_population_error_of_zero_on_the_ball() -> None:
    ball = DATA.build("ball")
    error = ball.population_error(Function(lambda x: 0 * x[:, :1]), samples=20_000)
    assert abs(error.value - 20 / 12 * (1 - 2 / math.pi)) < 4 * error.error
    assert 0 < error.error < 0.02
    assert error.quantity == "mean squared error"
    exact = ball.population_error(Function(lambda x: x[:, :1].abs() - x[:, 1:2].abs()))
    assert exact.value < 1e-12


def test_the_model_is_measured_in_evaluation_mode_and_left_as_it_was() -> None:
    model = nn.Sequential(Function(lambda x: x[:, :1]), nn.Dropout(0.9))
    model[1].eval()
    DATA.build("xor:dim=3").population_error(model)
    assert model[0].modes == [False]
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("xor:dim=1", "'xor' with dim=1; expected a whole number of at least 2"),
        ("xor:train=0", "'xor' with train=0"),
        ("ball:test=0", "'ball' with test=0"),
        ("ball:seed=-1", "'ball' with seed=-1"),
        ("balls", "try 'ball'"),
    ],
)
def test_options_that_cannot_be_used_are_named(spec: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        DATA.build(spec)
    assert "\n" not in str(caught.value)


def test_models_and_samples_that_do_not_fit_are_named() -> None:
    xor = DATA.build("xor:dim=3")
    with pytest.raises(InputError, match=r"outputs of shape \(8, 3\) for 8 inputs of data set 'xor'"):
        xor.population_error(Function(lambda x: x))
    with pytest.raises(InputError, match="samples=0"):
        xor.population_error(Function(lambda x: x[:, :1]), samples=0)
