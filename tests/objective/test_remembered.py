"""What an objective takes over from earlier ones of its kind, and what is looked at each time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from objective_problems import Net
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import NotDifferentiableError
from edgescope.objective import curvature, remembered


def network(width: int = 6, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 3))


def data(samples: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(samples) % 3


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the problems whose second derivatives were checked."""
    seen: list[int] = []
    check = curvature.refuse_wrong_hessian

    def watched(problem: Any, point: Any, *wide: bool) -> bool:
        seen.append(problem.layout.size)
        return check(problem, point, *wide)

    monkeypatch.setattr(curvature, "refuse_wrong_hessian", watched)
    return seen


def use(model: nn.Module, loss_fn: Any = None, batch: Any = None, **options: Any) -> es.Objective:
    loss_fn = es.supervised(F.cross_entropy) if loss_fn is None else loss_fn
    objective = es.Objective(model, loss_fn, data() if batch is None else batch, threads=1, **options)
    objective.hvp(torch.ones(objective.size, dtype=objective.dtype))
    return objective


def test_the_same_kind_is_checked_once_until_it_is_forgotten(checks: list[int]) -> None:
    first = use(network())
    second = use(network())  # other parameters
    assert len(checks) == 1
    assert second.spent.preparation < first.spent.preparation
    es.forget_choices()
    use(network())
    assert len(checks) == 2


def plain_loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize(
    "other",
    [
        lambda: use(network(7)),
        lambda: use(network(activation=nn.Softplus)),
        lambda: use(network().double()),
        lambda: use(network(), dtype=torch.float64),
        lambda: use(network(), plain_loss),
        lambda: use(network(), es.supervised(nn.CrossEntropyLoss())),
        lambda: use(network(), batch=data(13)),
        lambda: use(network(), batch=data(seed=1)),
        lambda: use(nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 3))),
        lambda: use(network(), params="0.*"),
        lambda: use(network(), path="rebuilt"),
        lambda: use(Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(4, 6), b=nn.Linear(6, 3))),
    ],
    ids=[
        "width",
        "activation",
        "model precision",
        "precision",
        "loss",
        "criterion",
        "samples",
        "data",
        "slope",
        "part",
        "path",
        "class",
    ],
)
def test_another_kind_is_checked_anew(other: Any, checks: list[int]) -> None:
    use(network())
    use(nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.1), nn.Linear(6, 3)))
    other()
    assert len(checks) == 3


def test_another_mode_is_checked_anew(checks: list[int]) -> None:
    def normalised() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    for mode in ("eval", "batch-statistics", "eval", "batch-statistics"):
        use(normalised(), mode=mode)
    assert len(checks) == 2


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return w**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return 3 * w**2 * gradient if right else 3 * w.detach() ** 2 * gradient


right = True


def test_functions_in_python_are_checked_each_time(checks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they depend on, a loss with one is not taken for the one of before."""

    def model() -> nn.Module:
        return Net(lambda m, x: Cube.apply(m.layer(x)), layer=nn.Linear(4, 3))

    use(model())
    monkeypatch.setitem(globals(), "right", False)
    with pytest.raises(NotDifferentiableError, match="custom autograd function Cube"):
        use(model())
    assert len(checks) == 2


class Determinant(nn.Module):
    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.linalg.det(self.w) * inputs


def mean(model: nn.Module, inputs: Tensor) -> Tensor:
    return model(inputs).mean()


def test_an_operation_that_is_wrong_at_special_points_is_checked_each_time(checks: list[int]) -> None:
    inputs = torch.ones(3, 1, dtype=torch.float64)
    use(Determinant([1.0, 2.0], [3.0, 4.0]), mean, inputs)
    use(Determinant([2.0, 2.0], [3.0, 4.0]), mean, inputs)
    assert len(checks) == 2


def test_the_fastest_path_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first = es.Objective(network(), es.supervised(F.cross_entropy), data(), threads=1)
    monkeypatch.setattr(type(first._curvature.planner), "_time_of", lambda *_: 0.0)
    assert first.plan(4).path == "kept-batched"
    monkeypatch.setattr(type(first._curvature.planner), "_time_of", lambda *_: pytest.fail("timed again"))
    second = es.Objective(network(), es.supervised(F.cross_entropy), data(), threads=1)
    assert second.plan(4).path == "kept-batched"
    assert second.plan(4).product_cost > 0
    assert second.plan(1).path == "kept"


def test_few_kinds_are_remembered_and_none_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 3)
    held = []
    for width in range(5, 10):
        numbers = torch.randn(1)

        def loss(model: nn.Module, batch: Any, numbers: Tensor = numbers) -> Tensor:
            return plain_loss(model, batch) + 0 * numbers.sum()

        held.append(weakref.ref(numbers))
        use(network(width), loss)
        del numbers, loss
    assert len(remembered._known) == 3
    gc.collect()
    assert [ref() for ref in held] == [None] * 5
