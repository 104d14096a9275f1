"""Gauss-Newton products against dense Jacobians, and both curvatures against an independent library."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from objective_problems import Case, Whole, build, labelled, mlp, relative
from torch import Tensor, nn

from edgescope.errors import NotKnownError
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

with warnings.catch_warnings():  # of torch's own deprecations, while it loads
    warnings.simplefilter("ignore", DeprecationWarning)
    from curvlinops import GGNLinearOperator, HessianLinearOperator

SUPERVISED = [
    "mlp-half-mse",
    "torch-mse",
    "cross-entropy-8+2",
    "smoothed-cross-entropy",
    "relu-cnn",
    "batchnorm-eval",
    "batchnorm-train",
    "transformer-pre-norm",
    "lstm",
    "tied-embedding",
    "frozen-and-unused",
    "weight-norm",
    "dicts",
]


def dense_gauss_newton(case: Case) -> Tensor:
    """J^T (d2 criterion) J, summed over batches by their share, from dense Jacobians and Hessians in float64."""
    whole = Whole(case)
    flat = whole.flat()
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    counts = [len(case.loss_fn.targets(batch)) for batch in whole.batches]
    for count, batch in zip(counts, whole.batches, strict=True):
        outputs_at = lambda w, batch=batch: whole.at_outputs(w, batch)  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(outputs_at, flat)
        outputs = outputs_at(flat).detach()
        criterion = lambda z, batch=batch: case.loss_fn.criterion_of(z, batch)  # noqa: E731
        curvature = torch.autograd.functional.hessian(criterion, outputs).reshape(outputs.numel(), outputs.numel())
        J = jacobian.reshape(outputs.numel(), len(flat))
        total += count / sum(counts) * J.T @ curvature @ J
    return total


@pytest.mark.parametrize("path", ["kept", "rebuilt"])
@pytest.mark.parametrize("name", SUPERVISED)
def test_gauss_newton_products(name: str, path: str) -> None:
    case = build(name, seed=3)
    dense = dense_gauss_newton(case)
    objective = Objective(
        case.model, case.loss_fn, case.batches, mode=case.mode, dtype=torch.float64, path=path, threads=1
    )
    V = torch.randn(objective.size, 5, dtype=torch.float64)
    for block in (V, V[:, :1], V[:, 2]):
        assert relative(objective.gnvp(block), dense @ block) < 1e-9
    assert relative(objective.operator(kind="gauss-newton") @ V, dense @ V) < 1e-9


def test_gauss_newton_is_the_hessian_of_a_linear_model_with_a_convex_loss() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    objective = Objective(model, supervised(nn.functional.cross_entropy), labelled(12, 5), dtype=torch.float64)
    V = torch.randn(objective.size, 4, dtype=torch.float64)
    assert relative(objective.gnvp(V), objective.hvp(V)) < 1e-10


def test_a_criterion_without_curvature_has_no_gauss_newton_matrix() -> None:
    torch.manual_seed(0)
    objective = Objective(mlp(), supervised(lambda z, y: (z - y).abs().mean()), (torch.randn(4, 4), torch.randn(4, 3)))
    assert not objective.gnvp(torch.ones(objective.size, 2)).any()


def test_graphs_are_kept_between_products_and_let_go() -> None:
    case = build("mlp-half-mse")
    calls = 0

    def counted(module: nn.Module, inputs: object, outputs: object) -> None:
        nonlocal calls
        calls += 1

    case.model.register_forward_hook(counted)
    objective = Objective(case.model, case.loss_fn, case.batches, path="kept", threads=1)
    V = torch.randn(objective.size, 2)
    first = objective.gnvp(V)
    spent, seen = objective.spent, calls
    assert (spent.gradients, spent.products) == (1, 2)
    assert torch.equal(objective.gnvp(V), first)
    assert calls == seen
    assert (objective.spent - spent).gradients == 0
    objective.release()
    assert torch.equal(objective.gnvp(V), first)
    assert calls == seen + 1
    objective.assign(objective.parameters() + 0.1)
    assert not torch.equal(objective.gnvp(V), first)


def test_a_loss_that_does_not_tell_outputs_apart_is_refused() -> None:
    case = build("keyword-batch")
    objective = Objective(case.model, case.loss_fn, case.batches)
    with pytest.raises(NotKnownError, match="does not separate outputs and criterion"):
        objective.gnvp(torch.ones(objective.size))
    with pytest.raises(NotKnownError, match="does not separate outputs and criterion"):
        objective.accuracy()


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=["cross-entropy", "mse"])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_curvlinops_finds_the_same_matrices(criterion: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    # Without layer norms, for which the other library's Hessian products are 7 to 12% off (torch 2.13).
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    data = [(x.double(), y) for x, y in (labelled(8, 4), labelled(2, 4))]
    if isinstance(criterion, nn.MSELoss):
        data = [(x, torch.randn(len(x), 3, dtype=torch.float64)) for x, _ in data]
    objective = Objective(model, supervised(criterion), data)
    parameters = list(model.parameters())
    V = torch.randn(objective.size, 3, dtype=torch.float64)
    for Their, mine in ((HessianLinearOperator, objective.hvp), (GGNLinearOperator, objective.gnvp)):
        theirs = Their(model, criterion, parameters, data, check_deterministic=False)
        assert relative(mine(V), torch.as_tensor(np.asarray(theirs @ V))) < 1e-9
    assert relative(objective.hvp(V), objective.gnvp(V)) > 1e-3


def test_half_mse_is_half_the_summed_square() -> None:
    torch.manual_seed(0)
    model, (x, y) = mlp().double(), labelled(7, 4)
    one_hot = nn.functional.one_hot(y, 3).double()
    objective = Objective(model, supervised(half_mse), (x, y))
    mean = Objective(model, supervised(nn.functional.mse_loss), (x, one_hot))
    V = torch.randn(objective.size, dtype=torch.float64)
    assert relative(objective.hvp(V), 1.5 * mean.hvp(V)) < 1e-10  # 3 classes: sum/2 against mean over classes
