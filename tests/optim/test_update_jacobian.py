"""The Jacobian of a step against torch.func.jacrev of the whole map, and against differences of torch's own steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flat_objective import FlatObjective, Quadratic, tanh_network
from torch import Tensor
from torch.func import grad, jacrev

from edgescope.errors import InputError
from edgescope.optim import rule_for, update_jacobian

# torch's own forward mode uses a part of torch that it has deprecated, once, on import
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

CASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any], tuple[str, ...]]] = [
    (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, ()),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}, ("momentum_buffer",)),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, ("momentum_buffer",)),
    (torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1}, ("square_avg",)),
    (
        torch.optim.RMSprop,
        {"lr": 0.01, "centered": True, "momentum": 0.5},
        ("square_avg", "grad_avg", "momentum_buffer"),
    ),
    (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    (torch.optim.Muon, {"lr": 0.02}, ("momentum_buffer",)),
    (torch.optim.Muon, {"lr": 0.02, "nesterov": False}, ("momentum_buffer",)),
]


def trained(
    kind: type, options: dict[str, Any], seed: int, steps: int = 3
) -> tuple[torch.optim.Optimizer, FlatObjective]:
    objective = tanh_network(seed)
    optimizer = kind(objective.tensors, **options)
    for _ in range(steps):
        objective.write_gradients()
        optimizer.step()
    return optimizer, objective


@pytest.mark.parametrize(("kind", "options", "vectors"), CASES)
@pytest.mark.parametrize(("seed", "steps"), [(0, 3), (1, 0)])
def test_against_jacrev(kind: type, options: dict[str, Any], vectors: tuple[str, ...], seed: int, steps: int) -> None:
    optimizer, objective = trained(kind, options, seed, steps)
    rule = rule_for(optimizer, objective.tensors)
    jacobian = update_jacobian(rule, objective)
    assert jacobian.names == ("parameters", *vectors)
    assert jacobian.size == 20 * (1 + len(vectors))
    state = rule.state()

    def step(z: Tensor) -> Tensor:
        w, *pieces = z.split(20)
        given = dict(zip(vectors, pieces, strict=True)) | {"step": state["step"]}
        new, after = rule.update(w, given, grad(objective.loss_of)(w))
        return torch.cat([new, *(after[name] for name in vectors)])

    here = torch.cat([objective.parameters(), *(state[name] for name in vectors)])
    dense = jacrev(step)(here)
    torch.testing.assert_close(jacobian @ torch.eye(jacobian.size).double(), dense, rtol=1e-9, atol=1e-10)
    assert jacobian.products == jacobian.size
    vector = torch.randn(jacobian.size, dtype=torch.float64)
    torch.testing.assert_close(jacobian @ vector, dense @ vector, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "options", "vectors"), [case for case in CASES if case[0] is not torch.optim.Muon])
def test_against_differences_of_torchs_own_step(kind: type, options: dict[str, Any], vectors: tuple[str, ...]) -> None:
    """Two live optimizers, nudged by plus and minus a little in the parameters."""
    direction = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    small, ends = 1e-5, []
    for sign in (1, -1):
        optimizer, objective = trained(kind, options, seed=2)
        for t, d in zip(objective.tensors, direction.split([12, 8]), strict=True):
            t.data += sign * small * d.view(t.shape)
        objective.write_gradients()
        optimizer.step()
        after = rule_for(optimizer, objective.tensors).state()
        ends.append(torch.cat([objective.parameters(), *(after[name] for name in vectors)]))
    optimizer, objective = trained(kind, options, seed=2)
    jacobian = update_jacobian(rule_for(optimizer, objective.tensors), objective)
    ours = jacobian @ torch.cat([direction, torch.zeros(jacobian.size - 20, dtype=torch.float64)])
    torch.testing.assert_close(ours, (ends[0] - ends[1]) / (2 * small), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("centered", [False, True])
def test_a_weight_without_a_gradient_gives_no_nan(centered: bool) -> None:
    t = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    H = torch.diag(torch.tensor([3.0, 0.0], dtype=torch.float64))
    optimizer = torch.optim.RMSprop([t], lr=0.5, eps=0.1, centered=centered)
    objective = Quadratic(H, [t])
    objective.write_gradients()
    optimizer.step()
    jacobian = update_jacobian(rule_for(optimizer, [t]), objective)
    unit = torch.zeros(jacobian.size, dtype=torch.float64)
    unit[1] = 1
    torch.testing.assert_close(jacobian @ unit, unit * torch.where(torch.arange(jacobian.size) == 1, 1.0, 0.0))


def test_bad_input_is_one_line() -> None:
    optimizer, objective = trained(torch.optim.Adam, {}, 0)
    rule = rule_for(optimizer, objective.tensors)
    jacobian = update_jacobian(rule, objective)
    with pytest.raises(InputError, match=r"shape \(20,\) .* size 60.*parameters, exp_avg, exp_avg_sq"):
        jacobian @ torch.ones(20)
    with pytest.raises(InputError, match="20 parameters and an objective of 2"):
        update_jacobian(rule, Quadratic(torch.eye(2), [torch.ones(2)]))
    with pytest.raises(InputError, match="not finite"):
        jacobian @ torch.full((60,), float("nan"))
