"""The trace by Gauss-Newton: against dense matrices, at interpolation and away from it."""

from __future__ import annotations

import pytest
import torch

from edgescope.data import DATA
from edgescope.errors import NotKnownError, UnknownNameError
from edgescope.linalg import to_matrix
from edgescope.losses import LOSSES, supervised
from edgescope.measures import MEASURES, Moment, Reading
from edgescope.objective import Objective
from edgescope.objective.gauss_newton_trace import gauss_newton_trace, residual_share
from edgescope.theory import relu


def objective_of(loss: str, dtype: torch.dtype, seed: int, l2: float = 0.0) -> Objective:
    torch.manual_seed(seed)
    outputs = 1 if loss.startswith("logistic") else 3
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, outputs)).to(dtype)
    targets = torch.randint(2, (40, 1)).to(dtype) * 2 - 1 if outputs == 1 else torch.randint(3, (40,))
    return Objective(model, supervised(LOSSES.build(loss)), (torch.randn(40, 5, dtype=dtype), targets), l2=l2)


def reading(objective: Objective, spec: str) -> Reading:
    w = objective.parameters()
    return MEASURES.build(spec).take(Moment(0, objective, None, None, w, w))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("loss", ["mse", "cross-entropy", "logistic:smoothing=0.1"])
def test_the_trace_of_the_gauss_newton_matrix_is_exact(loss: str, dtype: torch.dtype, rtol: float) -> None:
    for seed in range(2):
        objective = objective_of(loss, dtype, seed, l2=0.01 * seed)
        dense = float(to_matrix(objective.operator(kind="gauss-newton")).trace())
        assert gauss_newton_trace(objective) == pytest.approx(dense, rel=rtol)
        whole = float(to_matrix(objective.operator()).trace())
        found = reading(objective, "hessian_trace:method=gauss-newton")
        assert abs(found.values[""] - whole) < 5 * found.errors[""] + 1e-4 * abs(whole)
        assert found.errors[""] > 0
        assert found.cost.products == 30


@pytest.mark.parametrize("architecture", ["bias", "layernorm"])
def test_at_interpolation_it_is_the_trace_of_the_hessian(architecture: str) -> None:
    data = DATA.build("xor:dim=6,train=20").load()
    both = torch.unique(torch.cat([data.inputs, data.targets], 1).double(), dim=0)
    x, y = both[:, :-1], both[:, -1:]
    model = relu.memorizing(architecture, x, y)
    objective = Objective(model, supervised(LOSSES.build("squared")), (x, y))
    least = relu.minimal_trace(architecture, x, y)
    share, outputs = residual_share(objective)
    assert share < 1e-10
    assert outputs == 1
    found = reading(objective, "hessian_trace")
    assert found.values[""] == pytest.approx(least, rel=1e-6)
    assert found.errors[""] < 1e-6 * least
    with torch.no_grad():
        model.head.weight.mul_(0.5)  # far from the targets: sampled
    away = reading(objective, "hessian_trace")
    dense = float(to_matrix(objective.operator()).trace())
    assert away.cost.products in (30, objective.size)
    assert abs(away.values[""] - dense) < 5 * away.errors[""] + 1e-6 * dense


def test_what_cannot_be_told_apart_is_sampled_and_a_wrong_method_named() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1).double()
    batch = (torch.randn(9, 4).double(), torch.zeros(9, 1).double())
    plain = Objective(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), batch)
    found = reading(plain, "hessian_trace")
    assert found.values[""] == pytest.approx(float(to_matrix(plain.operator()).trace()))
    with pytest.raises(NotKnownError, match="separate outputs and criterion"):
        gauss_newton_trace(plain)
    with pytest.raises(UnknownNameError, match=r"method='hutch'.*try 'hutch\+\+'"):
        MEASURES["hessian_trace"](method="hutch")  # type: ignore[call-arg]
