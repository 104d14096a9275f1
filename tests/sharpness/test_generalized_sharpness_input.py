"""What generalized sharpness refuses, in one line each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import edgescope as es
from edgescope.errors import EdgescopeError, InputError
from edgescope.linalg import Operator, from_matrix

H = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))


def lopsided(block: torch.Tensor) -> torch.Tensor:
    return torch.triu(torch.ones(6, 6, dtype=block.dtype)) @ block


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "restarts": (lambda: es.generalized_sharpness(H, "linf", restarts=0), "restarts=0"),
    "iterations": (lambda: es.generalized_sharpness(H, "linf", iterations=0), "iterations=0"),
    "tol": (lambda: es.generalized_sharpness(H, "linf", tol=0.0), "tol=0"),
    "method": (lambda: es.generalized_sharpness(H, "linf", method="newton"), "method 'newton'"),  # type: ignore[arg-type]
    "geometry": (lambda: es.generalized_sharpness(H, "l7"), "l7"),
    "geometry type": (lambda: es.generalized_sharpness(H, 2), "a geometry given as a int"),  # type: ignore[arg-type]
    "no shapes": (lambda: es.generalized_sharpness(H, "spectral"), "does not know the shapes"),
    "wrong shapes": (lambda: from_matrix(H, shapes=[(2, 2)]), "have 4 entries"),
    "preconditioner": (
        lambda: es.generalized_sharpness(from_matrix(H, [(6,)]), es.geometry.Diagonal(torch.ones(5))),
        "a preconditioner of 5 entries",
    ),
    "NaN products": (
        lambda: es.generalized_sharpness(Operator(200, lambda block: block * torch.nan), "linf"),
        "not finite",
    ),
    "NaN matrix": (lambda: es.generalized_sharpness(H * torch.nan, "linf"), "NaN or infinite"),
    "matrix not square": (lambda: es.generalized_sharpness(H[:3], "linf"), "a matrix of shape (3, 6)"),
    "matrix not symmetric": (lambda: es.generalized_sharpness(torch.triu(torch.ones(6, 6)), "linf"), "not symmetric"),
    "operator not symmetric": (lambda: es.generalized_sharpness(Operator(6, lopsided), "linf"), "not symmetric"),
    "not an operator": (lambda: es.generalized_sharpness("H", "linf"), "is not an operator"),
    "start length": (lambda: es.generalized_sharpness(H, "linf", start=torch.ones(5)), "a start of shape (5,)"),
    "start zero": (lambda: es.generalized_sharpness(H, "linf", start=torch.zeros(6)), "a start that is zero"),
    "start a list": (lambda: es.generalized_sharpness(H, "linf", start=[1.0] * 6), "a start with a direction given as"),  # type: ignore[arg-type]
    "start of text": (
        lambda: es.generalized_sharpness(H, "linf", start=np.array(["a"] * 6)),  # type: ignore[arg-type]
        "a start with a direction with entries of",
    ),
    "state of lists": (
        lambda: es.generalized_sharpness(H, "linf", start={"direction": torch.ones(6), "points": [1.0]}),  # type: ignore[dict-item]
        "a start with a points given as a value of type list",
    ),
    "start a number": (lambda: es.generalized_sharpness(H, "linf", start=3), "given as a value of type int"),  # type: ignore[arg-type]
    "gradient a list": (
        lambda: es.generalized_sharpness(H, "linf", gradient=[1.0] * 6),  # type: ignore[arg-type]
        "the gradient given as a value of type list",
    ),
    "start empty": (lambda: es.generalized_sharpness(H, "linf", start={}), "a start without a direction"),
    "gradient length": (
        lambda: es.generalized_sharpness(H, "linf", gradient=torch.ones(5)),
        "a gradient of shape (5,)",
    ),
    "gradient zero": (lambda: es.generalized_sharpness(H, "linf", gradient=torch.zeros(6)), "the gradient is zero"),
    "gradient NaN": (
        lambda: es.generalized_sharpness(H, "linf", gradient=torch.full((6,), torch.nan)),
        "the gradient has entries that are NaN",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_in_one_line(case: str) -> None:
    call, words = BAD[case]
    with pytest.raises(EdgescopeError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [6, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symmetric_operators_are_not_refused_for_rounding(size: int, dtype: torch.dtype) -> None:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = matrix + matrix.T
    operator = Operator(size, lambda block: matrix @ block, dtype=dtype)
    assert es.generalized_sharpness(operator, "linf", restarts=1).lower > 0


def test_slightly_lopsided_operator_is_refused() -> None:
    matrix = torch.eye(200, dtype=torch.float64)
    matrix[0, 1] = 0.1
    with pytest.raises(InputError, match="not symmetric"):
        es.generalized_sharpness(Operator(200, lambda block: matrix @ block), "linf")


def test_arrays_of_numpy_are_taken_as_tensors_are() -> None:
    direction, gradient = torch.arange(1.0, 7.0), torch.linspace(-1, 1, 6)
    tensors = es.generalized_sharpness(H, "linf", start=direction, gradient=gradient)
    arrays = es.generalized_sharpness(H, "linf", start=direction.numpy(), gradient=gradient.numpy())  # type: ignore[arg-type]
    assert (arrays.lower, arrays.upper) == (tensors.lower, tensors.upper)
    assert torch.equal(arrays.direction, tensors.direction)
    assert arrays.lower <= float(H.sum()) <= arrays.upper * (1 + 1e-12)  # of a diagonal form: the sum of its entries
