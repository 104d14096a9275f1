"""What no flattest ReLU network can be made of, in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgescope.errors import EdgescopeError, InputError, NotKnownError, UnknownNameError
from edgescope.theory import relu

X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
Y = X.prod(1)
FUNCTIONS = {"minimal_trace": relu.minimal_trace, "memorizing": relu.memorizing, "generalizing": relu.generalizing}
RAY = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
LINE = torch.tensor([[0.0], [1.0], [2.0]])


def refused(function: str, kind: type[EdgescopeError], fault: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(kind, match=fault) as caught:
        FUNCTIONS[function](*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_every_function_refuses(function: str) -> None:
    refused(function, UnknownNameError, "'batch-norm'; expected one of .*; try 'batchnorm'", "batch-norm", X, Y)
    refused(function, UnknownNameError, "'nobias'.*try 'no-bias'", "nobias", X, Y)
    twice = X[[0, 1, 2, 1]]
    refused(function, InputError, "inputs 1 and 3 are equal; expected distinct", "bias", twice, twice.prod(1))
    refused(
        function,
        InputError,
        "cannot be interpolated: inputs 1 and 3 are equal, their targets -1 and 1",
        "bias",
        twice,
        Y,
    )
    refused(function, InputError, "input 0 is 0", "no-bias", torch.zeros(1, 2), torch.ones(1))
    refused(function, InputError, "inputs 0 and 1 lie on one ray", "no-bias", RAY, torch.tensor([1.0, 1.0]))
    refused(function, InputError, "batch of 1", "batchnorm", X[:1], Y[:1])
    refused(function, InputError, r"inputs of shape \(4, 2\) with targets of shape \(3,\)", "bias", X, Y[:3])
    refused(function, InputError, r"inputs of shape \(4,\)", "bias", Y, Y)
    refused(
        function,
        InputError,
        "inputs with 1 values that are NaN",
        "bias",
        X.index_fill(0, torch.tensor(0), torch.nan)[:, :1][:1],
        Y[:1],
    )
    refused(function, InputError, "targets with 4 values that are NaN or infinite", "bias", X, Y / 0)
    refused(function, InputError, "epsilon=0", "layernorm", X, Y, epsilon=0.0)
    refused(function, InputError, "'bias' with 1 layers", "bias", X, Y, depth=1)
    refused(function, InputError, "'layernorm' with 3 layers", "layernorm", X, Y, depth=3)


def test_targets_along_a_ray_may_be_proportional_without_bias() -> None:
    assert relu.minimal_trace("no-bias", RAY, torch.tensor([1.0, 2.0])) > 0
    assert relu.minimal_trace("bias", RAY, torch.tensor([1.0, 1.0])) > 0
    assert relu.minimal_trace("no-bias", RAY * torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 1.0])) > 0


def test_where_nothing_memorizes() -> None:
    ramp = torch.tensor([1.0, 1.0, 2.0])
    refused("memorizing", InputError, "'bias' memorizes input 1: it lies in the convex hull", "bias", LINE, ramp)
    refused("memorizing", InputError, "'layernorm' memorizes input 1: it lies", "layernorm", LINE, ramp)
    many = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    refused(
        "memorizing", InputError, "input 0: no half-space with the origin on its border", "no-bias", many, many[:, 0]
    )
    refused("memorizing", InputError, "batch normalisation memorizes.*try generalizing", "batchnorm", X, Y)
    refused("memorizing", InputError, "targets that are all 0", "bias", X, 0 * Y)


def test_where_nothing_generalizes_or_is_known() -> None:
    for architecture in ("no-bias", "bias", "batchnorm", "layernorm"):
        refused("generalizing", InputError, "expected xor data", architecture, X, Y + X[:, 0] + 3)
        refused("generalizing", InputError, "expected xor data", architecture, X, 0 * Y)
    refused("generalizing", InputError, "expected xor data", "bias", torch.cat([X, X[:, :1] / 2], 1), Y)
    refused("generalizing", InputError, "3 layers; expected depth=2", "no-bias", X, Y, depth=3)
    refused("generalizing", InputError, "without one of the corners", "batchnorm", X[:3], Y[:3])
    refused("minimal_trace", NotKnownError, "batch normalisation is not known", "batchnorm", X, X[:, 0] + 3)
    five = torch.cat([X[:3], 2 * X[:3]], 1).repeat(2, 1) + torch.tensor([[0.0]] * 3 + [[2.0]] * 3)
    refused(
        "minimal_trace", NotKnownError, "expected affinely independent inputs, or xor", "batchnorm", five, five[:, 0]
    )


def test_a_trace_needs_one_output() -> None:
    with pytest.raises(InputError, match=r"outputs of shape \(4, 2\) for 4 inputs"):
        relu.trace_at_interpolation(torch.nn.Linear(2, 2), X)
