"""An operator of an objective follows the live parameters, and stays where it is while it is held."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es

LOSS = es.supervised(nn.functional.cross_entropy)


def small() -> es.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs = torch.randn(20, 4, dtype=torch.float64)
    return es.Objective(model, LOSS, (inputs, torch.randint(3, (20,))), path="kept", threads=None)


def product_at(objective: es.Objective, w: Tensor, v: Tensor, kind: Any) -> Tensor:
    return objective.operator(w, kind=kind) @ v


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("derived", [False, True])
def test_a_held_operator_stays_and_follows_again_afterwards(kind: Any, derived: bool) -> None:
    objective = small()
    live = operator = objective.operator(kind=kind)
    if derived:
        operator = live.derived(lambda block: live @ block)
    v = torch.randn(objective.size, dtype=torch.float64)
    here = objective.parameters()
    there = here + 0.5
    before, after = (product_at(objective, w, v, kind) for w in (here, there))
    assert not torch.equal(before, after)
    with operator.held():
        assert torch.equal(operator @ v, before)
        objective.assign(there)
        with operator.held():
            assert torch.equal(operator @ v, before)
        assert torch.equal(operator @ v, before)
        assert torch.equal(objective.hvp(v), objective.hvp(v, there))
    assert torch.equal(operator @ v, after)


def test_a_solve_keeps_no_graphs_of_its_point() -> None:
    objective = small()
    tracker = es.EigenTracker(objective)
    tracker.update()
    point = weakref.ref(objective._problem.point(None))
    objective.release()
    gc.collect()
    assert point() is None


def test_an_operator_is_free_again_after_an_error() -> None:
    objective = small()
    operator = objective.operator()
    with pytest.raises(KeyboardInterrupt):
        es.top_eigenpairs(operator, progress=interrupted)
    v = torch.ones(objective.size, dtype=torch.float64)
    before = operator @ v
    objective.assign(objective.parameters() + 0.5)
    assert not torch.equal(operator @ v, before)


def interrupted(products: int, residual: float) -> None:
    raise KeyboardInterrupt
