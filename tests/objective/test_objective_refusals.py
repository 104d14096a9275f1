"""What an objective refuses: each with its type, one line, and a message that names the fault."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objective_problems import Net, labelled, mlp, relative
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from edgescope.errors import (
    EdgescopeError,
    EdgescopeWarning,
    InputError,
    NotDeterministicError,
    NotDifferentiableError,
    UnknownNameError,
)
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

LOSS = supervised(F.cross_entropy)


def refused(kind: type[EdgescopeError], *words: str, make: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def pair(n: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return labelled(n, 4)


class Noisy(Dataset):
    """A data set that augments its samples at random."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(4), index % 3


class Sampler:
    """Batches drawn anew at every pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng()
        for _ in range(2):
            yield torch.as_tensor(rng.normal(size=(4, 4))).float(), torch.zeros(4, dtype=torch.long)


def one_nan(value: float = float("nan")) -> list[dict[str, Tensor]]:
    batches = [dict(zip(("inputs", "targets"), pair(), strict=True)) for _ in range(3)]
    batches[1]["inputs"] = batches[1]["inputs"].clone()
    batches[1]["inputs"][2, 1] = value
    return batches


def test_data() -> None:
    def made(data: Any) -> Callable[[], object]:
        return lambda: Objective(mlp(), LOSS, data)

    refused(InputError, "one-shot iterator", "list(data)", make=made(iter([pair()])))
    refused(InputError, "one-shot iterator", make=made(pair() for _ in range(2)))
    refused(InputError, "data are empty", make=made([]))
    refused(InputError, "data are empty", make=made(()))
    refused(InputError, "batch 0 has 0 samples", make=made((torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))))
    refused(InputError, "batch 1 has 0 samples", make=made([pair(), tuple(t[:0] for t in pair())]))
    refused(InputError, "NaN or infinity", "batch 1", "inputs", make=made(one_nan()))
    refused(InputError, "NaN or infinity", "batch 1", "inputs", make=made(one_nan(float("inf"))))
    refused(InputError, "data of type TensorDataset", "DataLoader", make=made(TensorDataset(*pair())))
    refused(InputError, "data of type int", make=made(3))
    refused(InputError, "without any tensor", make=made([{"text": "words"}]))
    refused(NotDeterministicError, "two passes over the data", "list(loader)", make=made(Sampler()))
    noisy = DataLoader(Noisy(), batch_size=4)
    refused(NotDeterministicError, "two passes over the data", make=made(noisy))
    dropped = DataLoader(TensorDataset(*pair(7)), batch_size=4, shuffle=True, drop_last=True)
    refused(NotDeterministicError, "two passes", "dropped", make=made(dropped))


def test_models() -> None:
    frozen = mlp().requires_grad_(False)
    broken = mlp()
    broken[0].weight.data[0, 0] = float("nan")
    lazy = nn.Sequential(nn.LazyLinear(3))
    refused(InputError, "model of type function", "torch.nn.Module", make=lambda: Objective(mlp, LOSS, pair()))
    refused(InputError, "no trainable parameters", make=lambda: Objective(frozen, LOSS, pair()))
    refused(InputError, "no trainable parameters", make=lambda: Objective(nn.ReLU(), LOSS, pair()))
    refused(InputError, "parameter '0.weight'", "NaN", make=lambda: Objective(broken, LOSS, pair()))
    refused(InputError, "'0.weight' is not initialised", make=lambda: Objective(lazy, LOSS, pair()))
    complex_ = nn.Linear(4, 3, dtype=torch.complex64)
    refused(InputError, "torch.complex64", "real", make=lambda: Objective(complex_, LOSS, pair()))


def test_losses() -> None:
    x, y = pair()

    def made(loss: Any, data: Any = (x, y), model: nn.Module | None = None) -> Callable[[], object]:
        return lambda: Objective(model or mlp(), loss, data)

    def detached(model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]).detach().square().mean()

    def without_gradients(model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            return model(batch[0]).square().mean()

    refused(InputError, "shape (6,)", "scalar", ".mean()", make=made(lambda m, b: m(b[0]).square().sum(1)))
    refused(InputError, "shape (1,)", make=made(lambda m, b: m(b[0]).sum().reshape(1)))
    refused(InputError, "does not depend on the model's trainable parameters", make=made(detached))
    refused(InputError, "does not depend", "no_grad()", make=made(without_gradients))
    refused(InputError, "does not depend", make=made(lambda m, b: nn.Linear(4, 1)(b[0]).mean() * 0 + 1))
    refused(InputError, "torch.int64", make=made(lambda m, b: m(b[0]).argmax(1).sum()))
    refused(InputError, "returned a float", "scalar tensor", make=made(lambda m, b: m(b[0]).mean().item()))
    refused(InputError, "returned a NoneType", make=made(lambda m, b: None))
    refused(InputError, "the loss is nan", make=made(lambda m, b: m(b[0]).mean() * float("nan")))
    refused(InputError, "the loss is inf", make=made(lambda m, b: m(b[0]).exp().mean() + float("inf")))
    refused(InputError, "complex", make=made(lambda m, b: m(b[0]).mean() * 1j))
    refused(InputError, "a loss of type str", make=made("mse"))
    refused(InputError, "target of 7", "0 to 2", make=made(LOSS, (x, y + 7 - y)))
    refused(InputError, "ZeroDivisionError", make=made(lambda m, b: 1 / 0))
    plain = lambda m, b: F.cross_entropy(m(b[0]), b[1])  # noqa: E731
    refused(InputError, "the loss function failed", "out of bounds", make=made(plain, (x, y + 7 - y)))
    refused(InputError, "(6, 5)", make=made(LOSS, (torch.randn(6, 5), y)))
    refused(InputError, "shape (6, 4)", "shape (5,)", make=made(LOSS, (x, y[:5])))
    refused(InputError, "outputs of shape (6, 3)", "(6, 2)", make=made(supervised(half_mse), (x, torch.randn(6, 2))))


def test_a_batch_that_fails_later_is_one_line_too() -> None:
    plain = lambda m, b: F.cross_entropy(m(b[0]), b[1])  # noqa: E731
    x, y = pair()
    objective = Objective(mlp(), plain, [(x, y), (x[:2], y[:2] + 9)])
    for work in (objective.loss, objective.gradient, lambda: objective.hvp(torch.ones(objective.size))):
        refused(InputError, "the loss function failed", "out of bounds", make=work)


def test_options() -> None:
    def made(**options: Any) -> Callable[[], object]:
        return lambda: Objective(mlp(), LOSS, pair(), **options)

    refused(InputError, "mode 'training'", "auto, eval, train, batch-statistics", make=made(mode="training"))
    nonsense: dict[str, list[Any]] = {
        "l2": [-1.0, math.nan, math.inf, 1e308, "1", True, None],
        "chunk": [0, -3, 1.5, True, "4"],
        "expected_products": [0, 2.5, "many"],
        "memory_limit": [0, -1, 1e9, "4G"],
        "threads": [0, -1, 2.0, True, "all"],
        "check": [1, None, "no"],
        "dtype": [torch.int64, torch.complex64, "float32", float],
        "count": [3, "rows"],
        "path": ["kep", 3, None],
        "mode": ["evaluation", 1, None],
    }
    for name, values in nonsense.items():
        for value in values:
            refused(InputError, name, "expected", make=made(**{name: value}))
    refused(InputError, "torch.int64", make=made(dtype=torch.int64))
    refused(UnknownNameError, "unknown path 'keep'", "'kept'", make=made(path="keep"))
    refused(InputError, "threads = 0", make=made(threads=0))
    refused(InputError, "threads = 'many'", make=made(threads="many"))
    refused(InputError, "batch 0 has a weight of -1", make=made(count=lambda batch: -1))
    refused(InputError, "batch 0 has a weight of nan", make=made(count=lambda batch: float("nan")))


def test_vectors() -> None:
    objective = Objective(mlp(), LOSS, pair())
    P = objective.size
    refused(InputError, f"({P + 1},)", f"({P},)", make=lambda: objective.hvp(torch.ones(P + 1)))
    refused(InputError, f"(2, {P})", f"({P}, k)", make=lambda: objective.hvp(torch.ones(2, P)))
    refused(InputError, "shape ()", make=lambda: objective.gnvp(torch.tensor(1.0)))
    refused(InputError, "type list", make=lambda: objective.hvp([1.0] * P))
    refused(InputError, "parameter vector", f"({P - 1},)", make=lambda: objective.loss(torch.ones(P - 1)))
    refused(InputError, "parameter vector", "type float", make=lambda: objective.gradient(1.0))
    refused(InputError, "kind 'fisher'", make=lambda: objective.operator(kind="fisher"))
    for width in (0, "4", 1.5, None):
        refused(InputError, f"width={width!r}", "at least 1", make=lambda w=width: objective.plan(w))
    for wrong in (float("nan"), float("inf")):
        vector = torch.cat([torch.ones(P - 1), torch.tensor([wrong])])
        for product in (objective.hvp, objective.gnvp):
            for block in (vector, torch.stack([vector, torch.ones(P)], 1)):
                refused(InputError, "NaN or infinity", "finite", make=functools.partial(product, block))
    assert objective.hvp(torch.full((P,), 3e38)).shape == (P,)  # finite, though their sum is not
    operator = objective.operator(torch.full((P,), float("nan")))
    refused(InputError, "not finite", make=lambda: operator @ torch.ones(P))


class Dropping(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def test_dropout_and_other_randomness() -> None:
    def train(model: nn.Module) -> Callable[[], object]:
        return lambda: Objective(model, LOSS, pair(), mode="train")

    layered = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 3)))
    mha = Net(
        lambda m, x: m.att(x[:, None], x[:, None], x[:, None])[0][:, 0], att=nn.MultiheadAttention(4, 2, dropout=0.1)
    )
    lstm = Net(lambda m, x: m.rnn(x[:, None])[0][:, 0], rnn=nn.LSTM(4, 3, num_layers=2, dropout=0.3))
    encoder = Net(lambda m, x: m.block(x[:, None])[:, 0], block=nn.TransformerEncoderLayer(4, 2, 4, batch_first=True))
    refused(NotDeterministicError, "'1.0'", "p=0.2", "mode='train'", make=train(layered))
    refused(NotDeterministicError, "'att'", "p=0.1", make=train(mha))
    refused(NotDeterministicError, "'rnn'", "p=0.3", make=train(lstm))
    refused(NotDeterministicError, "'block.", "p=0.1", make=train(encoder))
    for model in (layered, mha, lstm, encoder):
        Objective(model, LOSS, (pair()[0], pair()[1] % 3))  # the default mode has no dropout
    functional = Dropping(lambda x: F.dropout(x, 0.5))
    refused(NotDeterministicError, "two evaluations", "'bernoulli_'", make=lambda: Objective(functional, LOSS, pair()))
    noise = Dropping(lambda x: x + torch.randn_like(x))
    refused(NotDeterministicError, "'randn_like'", make=lambda: Objective(noise, LOSS, pair()))
    rrelu = nn.Sequential(nn.Linear(4, 3), nn.RReLU())
    refused(NotDeterministicError, "rrelu", make=train(rrelu))
    outside = Dropping(lambda x: x * float(np.random.default_rng().normal()))
    refused(NotDeterministicError, "two evaluations", make=lambda: Objective(outside, LOSS, pair()))
    still = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0), nn.Linear(4, 3))
    assert Objective(still, LOSS, pair(), mode="train").mode == "train"


def test_random_numbers_without_effect_are_no_fault() -> None:
    model = Dropping(lambda x: x + 0 * torch.randn_like(x))
    Objective(model, LOSS, pair()).hvp(torch.ones(15))


class Twice(torch.autograd.Function):
    """w^3, whose backward can be differentiated."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return w**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return 3 * w**2 * gradient


class Once(Twice):
    """The same, but its backward cannot: torch gives zeros without an error where the gradient is a constant."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return 3 * w**2 * gradient


class Detached(Twice):
    """The same, with a backward that computes in NumPy."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return torch.as_tensor(3 * w.detach().numpy() ** 2) * gradient


def cubic(function: type[torch.autograd.Function], outer: Callable[[Tensor], Tensor]) -> Objective:
    torch.manual_seed(0)
    model = Net(lambda m, x: outer(function.apply(m.layer.weight)) + 0 * x.sum(), layer=nn.Linear(3, 2, bias=False))
    return Objective(model, lambda m, b: m(b), torch.ones(4, 3))


@pytest.mark.parametrize("function", [Once, Detached])
@pytest.mark.parametrize("outer", [torch.sum, lambda t: t.square().sum()], ids=["sum", "square"])
def test_custom_functions_without_a_second_derivative(function: Any, outer: Any) -> None:
    objective = cubic(function, outer)
    refused(NotDifferentiableError, make=lambda: objective.hvp(torch.ones(6)))
    refused(NotDifferentiableError, make=lambda: objective.plan())
    assert relative(objective.gradient(), cubic(Twice, outer).gradient()) < 1e-6  # what is known is still given


def test_silent_custom_functions_are_named() -> None:
    refused(
        NotDifferentiableError, "custom autograd function Once", make=lambda: cubic(Once, torch.sum).hvp(torch.ones(6))
    )
    refused(
        NotDifferentiableError,
        "custom autograd function Detached",
        make=lambda: cubic(Detached, torch.sum).hvp(torch.ones(6)),
    )


def test_custom_functions_with_a_second_derivative() -> None:
    objective = cubic(Twice, torch.sum)
    w = objective.parameters()
    assert relative(objective.hvp(torch.ones(6)), 6 * w) < 1e-6


def test_a_gradient_that_is_stopped_is_refused() -> None:
    """The loss falls along one direction and its gradient is computed as if it did not: no Hessian belongs to it."""
    model = nn.Linear(4, 1)
    objective = Objective(model, lambda m, x: (m(x) * m(x).detach() ** 3).mean(), torch.randn(5, 4))
    refused(
        NotDifferentiableError,
        "does not match finite differences of its gradient",
        make=lambda: objective.hvp(torch.ones(5)),
    )
    assert Objective(model, objective.loss_fn, torch.randn(5, 4), check=False).hvp(torch.ones(5)).shape == (5,)


def test_spectral_normalisation_in_training_mode_is_refused() -> None:
    """Its power iteration follows the weights without a gradient; in the mode "eval" it stands still."""
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    objective = Objective(model, LOSS, pair(), mode="train")
    refused(
        NotDifferentiableError,
        "finite differences of its gradient",
        make=lambda: objective.hvp(torch.ones(objective.size)),
    )
    assert Objective(model, LOSS, pair()).hvp(torch.ones(objective.size)).isfinite().all()


@pytest.mark.parametrize("model", ["relu", "norm-in-single-precision"])
def test_the_comparison_with_differences_refuses_no_sound_model(model: str) -> None:
    """Kinks, and layers that compute in single precision whatever they are given, as language models have."""
    for seed in range(10):
        torch.manual_seed(seed)
        if model == "relu":
            net = nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 3))
        else:
            net = Net(
                lambda m, x: m.b(F.layer_norm(m.a(x).float(), (16,)).to(x.dtype).tanh()),
                a=nn.Linear(8, 16),
                b=nn.Linear(16, 3),
            )
        objective = Objective(net, LOSS, labelled(64, 8), dtype=torch.float64, path="kept", threads=1)
        assert objective.hvp(torch.ones(objective.size)).isfinite().all()


def test_a_network_exactly_on_a_kink_is_not_refused() -> None:
    """An empty sample under zero biases puts every ReLU at its kink, where the gradient jumps."""
    net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    for layer in (net[0], net[2], net[4]):
        nn.init.zeros_(layer.bias)
    inputs = torch.randn(6, 4, dtype=torch.float64)
    inputs[:5] = 0.0
    objective = Objective(net, LOSS, (inputs, torch.randint(3, (6,))))
    assert objective.hvp(torch.ones(objective.size, dtype=torch.float64)).isfinite().all()


def bag() -> Objective:
    net = Net(lambda m, x: m.head(m.bag(x)), bag=nn.EmbeddingBag(7, 4), head=nn.Linear(4, 3))
    return Objective(net, LOSS, (torch.randint(7, (6, 2)), pair()[1]))


def ctc() -> Objective:
    def loss(m: nn.Module, b: Any) -> Tensor:
        return F.ctc_loss(m(b[0]).transpose(0, 1).log_softmax(-1), b[1], torch.full((2,), 5), torch.full((2,), 2))

    return Objective(nn.Linear(4, 3), loss, (torch.randn(2, 5, 4), torch.randint(1, 3, (2, 2))))


def cdist() -> Objective:
    net = Net(lambda m, x: torch.cdist(m.layer(x), m.layer(x) + 1.0), layer=nn.Linear(4, 3))
    return Objective(net, lambda m, b: m(b[0]).square().mean(), pair())


@pytest.mark.parametrize(("make", "word"), [(bag, "embedding_bag"), (ctc, "ctc_loss"), (cdist, "cdist")])
def test_operations_without_a_second_derivative_are_named(make: Callable[[], Objective], word: str) -> None:
    objective = make()
    assert objective.gradient().isfinite().all()
    refused(NotDifferentiableError, word, make=lambda: objective.hvp(torch.ones(objective.size)))


def test_cutting_batches_that_stand_together() -> None:
    norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    refused(InputError, "chunk=", "batch statistics", make=lambda: Objective(norm, LOSS, pair(), mode="train", chunk=2))
    contrast = lambda m, b: (m(b[0]) - m(b[0]).mean(0)).square().mean()  # noqa: E731
    refused(InputError, "chunk=2", "not a mean over samples", make=lambda: Objective(mlp(), contrast, pair(), chunk=2))
    summed = lambda m, b: m(b[0]).square().sum()  # noqa: E731
    with pytest.warns(EdgescopeWarning, match="sum over the samples"):
        refused(InputError, "not a mean over samples", make=lambda: Objective(mlp(), summed, pair(), chunk=2))
    Objective(norm, LOSS, pair(), mode="eval", chunk=2)  # in evaluation samples do not see each other
    refused(InputError, "chunk=", "batch statistics", make=lambda: Objective(norm, LOSS, pair(), chunk=2))
