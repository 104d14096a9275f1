"""Every derivative path on every operation, against central differences of gradients: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from second_derivative_cases import OPERATIONS, Operation
from torch import Tensor, nn

from edgescope.errors import NotDifferentiableError
from edgescope.losses import supervised
from edgescope.objective import Objective, plan
from edgescope.objective.plan import PathName

SAMPLES = torch.tensor([[1.0], [0.5], [-0.7]], dtype=torch.float64)
PLAIN = ("kept", "rebuilt")
TRACED = (
    *("solve", "det", "det-singular", "slogdet", "householder-product", "cholesky-inverse", "cholesky-solve"),
    *("cumprod", "cumprod-one-zero", "cumprod-two-zeros"),
    *("batch-norm-train", "batch-norm-eval", "layer-norm", "layer-norm-plain"),
)
"""Operations whose traced program is checked, too, which takes its time."""
STEP = 1e-5


def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean() + 0.7 * (outputs * targets).mean()


class Applied(nn.Module):
    """An operation on parameters; the outputs of a sample are its results times the sample's input."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.tensors = nn.ParameterList([nn.Parameter(t) for t in operation.parameters()])
        self.function = operation.function

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.function(*self.tensors).reshape(1, -1)


class Problem:
    """An operation under a loss, with products by central differences of gradients that torch takes at other points."""

    def __init__(self, operation: Operation) -> None:
        torch.manual_seed(3)
        self.operation = operation
        self.model = Applied(operation)
        self.shapes = [t.shape for t in self.model.tensors]
        self.flat = torch.cat([t.detach().flatten() for t in self.model.tensors])
        with torch.no_grad():
            outputs = operation.function(*self.model.tensors).numel()
        self.data = SAMPLES, torch.randn(len(SAMPLES), outputs, dtype=torch.float64)
        self.loss_fn = supervised(criterion)
        self.V = torch.randn(len(self.flat), 3, dtype=torch.float64)

    def objective(self, path: str, **options: object) -> Objective:
        return Objective(self.model, self.loss_fn, self.data, path=path, threads=1, **options)

    def outputs(self, flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in self.shapes])
        put_in = [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]
        return SAMPLES * self.operation.function(*put_in).reshape(1, -1)

    def gradient(self, flat: Tensor) -> Tensor:
        leaf = flat.clone().requires_grad_()
        return torch.autograd.grad(criterion(self.outputs(leaf), self.data[1]), leaf, materialize_grads=True)[0]

    def hessian_products(self) -> Tensor:
        return differences(self.gradient, self.flat, self.V)

    def gauss_newton_products(self) -> Tensor:
        """J^T B J V, J by differences of the outputs, B that of the criterion: 2 / n."""
        jacobian = differences(lambda w: self.outputs(w).flatten(), self.flat, torch.eye(len(self.flat)).double())
        return jacobian.T @ jacobian @ self.V * 2 / len(jacobian)


def differences(function: Callable[[Tensor], Tensor], flat: Tensor, V: Tensor) -> Tensor:
    """Along the columns of V, by central differences of fourth order."""
    found = []
    for v in V.T:
        near = function(flat + STEP * v) - function(flat - STEP * v)
        far = function(flat + 2 * STEP * v) - function(flat - 2 * STEP * v)
        found.append((8 * near - far).detach() / (12 * STEP))
    return torch.stack(found, 1)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    assert float((found - wanted).norm()) <= 1e-6 * max(float(wanted.norm()), 1e-3)


def found_or_refusal(work: Callable[[], Tensor]) -> Tensor | str:
    try:
        return work()
    except NotDifferentiableError as error:
        return str(error)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_path_is_right_or_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(OPERATIONS[name])
    operation = problem.operation
    monkeypatch.setattr(torch, "compile", lambda program, **_: program)
    monkeypatch.setattr(plan.Compiled, "possible", staticmethod(lambda: True))
    twice = [path for path in get_args(PathName) if path != "difference"]
    paths = [path for path in ("auto", *twice) if path != "compiled" or name in TRACED]
    if operation.refused:
        for path in paths:
            with pytest.raises(NotDifferentiableError, match=operation.refused) as caught:
                problem.objective(path).hvp(problem.V)
            assert "\n" not in str(caught.value)
        return
    wanted = problem.hessian_products()
    for path in paths:
        objective = problem.objective(path)
        if path in operation.wrong_on:
            with pytest.raises(NotDifferentiableError, match=f"path='{path}'"):
                objective.hvp(problem.V)
        elif path in ("auto", *PLAIN):
            assert_same(objective.hvp(problem.V), wanted)
            assert_same(objective.hvp(problem.V[:, 0]), wanted[:, 0])
        else:  # torch has not every derivative on every path
            found = found_or_refusal(lambda o=objective: o.hvp(problem.V))
            if isinstance(found, str):
                assert f"path='{path}' has no derivative for some operation" in found
            else:
                assert_same(found, wanted)


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if not each.refused])
def test_differences_of_gradients_are_within_their_errors_or_refused(name: str) -> None:
    problem = Problem(OPERATIONS[name])
    objective = problem.objective("difference")
    found = found_or_refusal(lambda: objective.hvp(problem.V))
    if isinstance(found, str):
        assert "path='difference' is meaningless for" in found
        return
    wanted, errors = problem.hessian_products(), objective.product_errors
    assert errors is not None
    lengths = problem.V.norm(dim=0)
    stated = lengths * torch.tensor([error for error, _ in errors.measured]).double()
    slack = 1e-6 * wanted.norm(dim=0).clamp(min=1e-3)  # of the reference, as above
    assert bool(((found - wanted).norm(dim=0) <= stated + slack).all())


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_wrong_path_is_never_chosen_however_fast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path that is tried takes half the time of the one before, and no graphs are kept, so that all are tried."""
    seconds = [0.01]

    def halved(work: Callable[[], object], beat: float = 0.0) -> float:
        work()
        seconds[0] /= 2
        return seconds[0]

    problem = Problem(OPERATIONS[name])
    if problem.operation.refused:
        return
    monkeypatch.setattr(plan, "shortest", halved)
    monkeypatch.setattr(plan.Planner, "keeps", lambda *_: False)
    objective = problem.objective("auto")
    assert objective.plan(3).path not in problem.operation.wrong_on
    assert_same(objective.hvp(problem.V), problem.hessian_products())


@pytest.mark.parametrize("name", OPERATIONS)
def test_gauss_newton_is_right_or_refused(name: str) -> None:
    problem = Problem(OPERATIONS[name])
    objective = problem.objective("kept")
    found = found_or_refusal(lambda: objective.gnvp(problem.V))
    if isinstance(found, str):
        assert problem.operation.refused
        assert problem.operation.refused in found
    elif not problem.operation.refused:
        assert_same(found, problem.gauss_newton_products())
