"""A symmetric linear map known only by its products with blocks of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, MemoryBudgetError


class Operator:
    """A symmetric map on vectors of length ``size``.

    ``apply`` takes a block ``(size, k)`` whose columns are the vectors and returns the same shape. ``products`` counts
    the columns multiplied so far. ``shapes``, where known, are the shapes of the parameter tensors that lie one after
    the other in a vector (geometries of matrices need them). ``matrix`` is the dense matrix where it is at hand, so
    that what needs its entries does not pay products for them.
    """

    def __init__(
        self,
        size: int,
        apply: Callable[[Float[Tensor, "P k"]], Float[Tensor, "P k"]],
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        shapes: Sequence[tuple[int, ...]] | None = None,
        matrix: Float[Tensor, "P P"] | None = None,
    ) -> None:
        if size < 1:
            raise InputError(f"an operator of size {size}", expected="a size of at least 1")
        self.size = size
        self.dtype = dtype
        self.device = torch.device(device)
        self.shapes = None if shapes is None else [tuple(s) for s in shapes]
        self.matrix = matrix
        self.products = 0
        self._apply = apply

    def __matmul__(self, block: Tensor) -> Tensor:
        """Products with one vector ``(size,)`` or a block ``(size, k)``; counted, shape kept, NaN refused."""
        if block.ndim not in (1, 2) or block.shape[0] != self.size:
            raise InputError(
                f"a block of shape {tuple(block.shape)} for an operator of size {self.size}",
                expected=f"shape ({self.size},) or ({self.size}, k)",
            )
        columns = block[:, None] if block.ndim == 1 else block
        result = self._apply(columns)
        self.products += columns.shape[1]
        if not bool(torch.isfinite(result).all()):
            raise InputError(
                "a curvature product is not finite (NaN or infinity)",
                hint="a smaller learning rate, float64, or checking the parameters and the data for NaN",
            )
        return result[:, 0] if block.ndim == 1 else result


def from_matrix(matrix: Float[Tensor, "P P"], shapes: Sequence[tuple[int, ...]] | None = None) -> Operator:
    """A dense symmetric matrix as an operator.

    ``shapes`` name the tensors that a vector of length P consists of. Raises :class:`InputError` for a matrix that is
    not square, not finite or not symmetric (largest asymmetry above 1e-6 of the largest entry; 1e-3 in float32).
    """
    matrix = torch.as_tensor(matrix)
    if not matrix.is_floating_point():
        matrix = matrix.double()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"a matrix of shape {tuple(matrix.shape)}", expected="a square one")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the matrix has entries that are NaN or infinite", expected="finite entries")
    slack = 1e-6 if matrix.dtype == torch.float64 else 1e-3
    asymmetry = float((matrix - matrix.T).abs().max())
    if asymmetry > slack * max(float(matrix.abs().max()), 1e-300):
        raise InputError(
            f"the matrix is not symmetric (largest |H - H^T| is {asymmetry:.3g})",
            expected="a symmetric matrix",
            hint="(H + H.T) / 2 if the asymmetry is rounding",
        )
    if shapes is not None and sum(torch.Size(s).numel() for s in shapes) != matrix.shape[0]:
        raise InputError(
            f"shapes {list(shapes)} hold {sum(torch.Size(s).numel() for s in shapes)} numbers",
            expected=f"{matrix.shape[0]}, the size of the matrix",
        )
    return Operator(
        matrix.shape[0],
        lambda block: matrix @ block.to(matrix.dtype),
        dtype=matrix.dtype,
        device=matrix.device,
        shapes=shapes,
        matrix=matrix,
    )


def as_operator(thing: Any) -> Operator:
    """An operator from an operator, a dense symmetric matrix, or anything with a method ``operator()``."""
    if isinstance(thing, Operator):
        return thing
    if isinstance(thing, Tensor):
        return from_matrix(thing)
    make = getattr(thing, "operator", None)
    if callable(make):
        made = make()
        if isinstance(made, Operator):
            return made
    raise InputError(
        f"a {type(thing).__name__} is not an operator",
        expected="an Objective, an Operator or a symmetric matrix",
    )


def to_matrix(thing: Any, block: int = 64) -> Float[Tensor, "P P"]:
    """The dense symmetric float64 matrix of an operator, from P products in blocks of ``block``, symmetrised.

    The products have the operator's own precision. Raises :class:`MemoryBudgetError` where P^2 numbers do not fit.
    """
    operator = as_operator(thing)
    size = operator.size
    needed, free = 2 * 8 * size**2, psutil.virtual_memory().available
    if needed > free:
        raise MemoryBudgetError(
            f"a dense matrix of size {size} needs {needed / 2**30:.2f} GiB, {free / 2**30:.2f} are free",
            hint='method="slq" or a smaller model',
        )
    matrix = torch.empty((size, size), dtype=torch.float64)
    for start in range(0, size, block):
        width = min(block, size - start)
        unit = torch.zeros((size, width), dtype=operator.dtype, device=operator.device)
        unit[torch.arange(start, start + width), torch.arange(width)] = 1
        matrix[start : start + width] = (operator @ unit).T
    return matrix.add_(matrix.T.clone()).div_(2)
