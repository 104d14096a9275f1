"""A symmetric linear map known only by its products with blocks of vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost, Meter
from edgescope.errors import InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.linalg.product_errors import ProductErrors
from edgescope.memory import budget, require
from edgescope.options import check_function, check_int, checked, integer, type_of
from edgescope.short_errors import short_errors


@short_errors
class Operator:
    """A symmetric map on vectors of length ``size``.

    ``apply`` maps a block (size, k), whose columns are the vectors, to their products, of the same shape. ``products``
    counts the columns multiplied so far. ``shapes``, where known, are the shapes of the parameter tensors that a vector
    is a concatenation of (geometries of matrices need them). ``matrix`` is the dense matrix where it is available, so
    that its entries cost no products. ``room(least)``, where given, returns the bytes that vectors may take beside what
    products need, and makes it ``least`` where it can; by default that is 80% of the free memory. ``mode`` is the mode
    of the model whose Hessian this is ("eval", "batch-statistics", "train"), and None where there is no model; results
    of measurements state it, too. ``meter`` counts what is spent on products beside them, such as the checks before the
    first. ``errors`` knows those of products that are not exact, as its ``apply`` makes them. ``hold``, where given,
    returns a context inside which ``apply`` may take it that what the operator is made of stays as it is.
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
        mode: str | None = None,
        room: Callable[[int], int] | None = None,
        meter: Meter | None = None,
        errors: ProductErrors | None = None,
        hold: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.size = check_int("an operator", "size", size, least=1)
        check_function("an operator", "apply", apply)
        self.dtype = dtype
        self.device = torch.device(device)
        self.shapes = None if shapes is None else [tuple(s) for s in shapes]
        self.matrix = matrix
        self.mode = mode
        self.meter = meter
        self.products = 0
        self._apply = apply
        self._room = room
        self._hold = hold
        self._source: Operator | None = None  # of a derived one
        self._all_finite: list[Bool[Tensor, ""]] | None = None  # of products whose check is deferred
        self._error_of: Callable[[Float[Tensor, "P k"]], Float[Tensor, "P k"] | None] | None = None
        if errors is not None:
            self._error_of = lambda block: None if errors.errors is None else errors.errors.T
        self._last_error: Float[Tensor, "P k"] | None = None
        self._stand_in: Float[Tensor, "P k"] | None = None
        self._norm_error, self._form_error = 0.0, 0.0

    def room(self, least: int = 0) -> int:
        """The bytes that vectors may take beside what products need: ``least`` where products can do with less."""
        return budget(self.device) if self._room is None else self._room(least)

    @property
    def product_error(self) -> float:
        """The largest norm of the error of a product so far, for vectors of unit norm; 0 where products are exact."""
        return self._norm_error

    @property
    def form_error(self) -> float:
        """The largest error of a form v^T H v so far, for vectors v of unit norm; 0 where products are exact."""
        return self._form_error

    def held(self) -> AbstractContextManager[object]:
        """A context for a solve, inside which what the operator is made of stays as it is, such as a model's weights.

        Products then do not ask whether it has changed, for which the host would wait for an accelerator every time.
        """
        return nullcontext() if self._hold is None else self._hold()

    def derived(
        self,
        apply: Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]],
        *,
        size: int | None = None,
        matrix: Float[Tensor, "n n"] | None = None,
        same_error: bool = False,
    ) -> Operator:
        """An operator that is computed from products with this one, with the same precision, device and mode.

        It has the same size and shapes; with a different ``size`` it has no shapes. The errors of its products follow
        from those of this one, as ``apply`` is a linear function of the product: it is called again for that, with the
        error in the place of the product. Not with ``same_error``, where an exact product is added.
        """
        made = Operator(
            self.size if size is None else size,
            apply,
            dtype=self.dtype,
            device=self.device,
            shapes=self.shapes if size is None else None,
            matrix=matrix,
            mode=self.mode,
            room=self._room,
            meter=self.meter,
            hold=self.held,
        )
        made._source = self
        if self._error_of is not None:
            made._error_of = (lambda block: self._last_error) if same_error else self._carried(apply)
        return made

    def held_on(self, device: torch.device | str) -> Operator:
        """The same operator for vectors on another device, copied to its own for each product and back."""
        device = torch.device(device)
        if device.type == self.device.type and device.index in (None, self.device.index):
            return self
        made = self.derived(lambda block: (self @ block.to(self.device)).to(device))
        made.device, made._room = device, lambda least: budget(device)
        return made

    def _carried(
        self, apply: Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]]
    ) -> Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"] | None]:
        def error_of(block: Float[Tensor, "n k"]) -> Float[Tensor, "n k"] | None:
            error = self._last_error
            if error is None:
                return None
            try:
                self._stand_in = error
                found = apply(block)
                self._stand_in = torch.zeros_like(error)
                return found - apply(block)
            finally:
                self._stand_in = None

        return error_of

    @property
    def spent(self) -> Cost:
        """What was spent so far: products, and where a ``meter`` counts it, all else that they took."""
        return Cost(products=self.products) if self.meter is None else self.meter.total

    def __matmul__(self, block: Tensor) -> Tensor:
        """The product with a vector (size,), or with the columns of a block (size, k); counted in ``products``.

        Raises :class:`InputError` for a block of another shape, and for products that are not finite.
        """
        if not isinstance(block, Tensor):
            raise InputError(f"an operator times {type_of(block)}", expected="a tensor", hint="torch.as_tensor of it")
        if block.ndim not in (1, 2) or block.shape[0] != self.size:
            raise InputError(
                f"a block of shape {tuple(block.shape)} for an operator of size {self.size}",
                expected=f"shape ({self.size},) or ({self.size}, k)",
            )
        columns = block[:, None] if block.ndim == 1 else block
        if self._stand_in is not None:
            return self._stand_in[:, 0] if block.ndim == 1 else self._stand_in
        result = self._apply(columns)
        self.products += columns.shape[1]
        self._note_errors(columns)
        if self._all_finite is not None:
            self._all_finite.append(torch.isfinite(result).all())
        # The sum tells at a hundredth of the cost; that of finite numbers may overflow.
        elif not math.isfinite(float(result.sum())):
            self.refuse_unless(bool(torch.isfinite(result).all()), block)
        return result[:, 0] if block.ndim == 1 else result

    def unchecked(self, block: Float[Tensor, "P k"]) -> tuple[Float[Tensor, "P k"], Bool[Tensor, ""] | None]:
        """The products with the columns of a block, and whether they are finite, which the host has yet to read.

        For a solver that reads of every product anyway, and asks :meth:`refuse_unless` then. On the CPU, where reading
        is free, products are checked at once, and there is nothing to read.
        """
        if self.device.type == "cpu":
            return self @ block, None
        with self._deferred([]) as found:
            result = self @ block
            return result, torch.stack(found).all()

    def refuse_unless(self, finite: bool, block: Tensor) -> None:
        """Raise :class:`InputError` unless the products with ``block`` are finite."""
        if finite:
            return
        if not bool(torch.isfinite(block).all()):
            raise InputError("a block of vectors with NaN or infinity", expected="finite numbers")
        raise InputError(
            "a curvature product is not finite (NaN or infinity)",
            hint="a smaller learning rate, float64, or checking the parameters and the data for NaN",
        )

    @contextmanager
    def _deferred(self, found: list[Bool[Tensor, ""]]) -> Iterator[list[Bool[Tensor, ""]]]:
        """Inside, whether products are finite, and those that they are made of, goes to ``found``."""
        before, self._all_finite = self._all_finite, found
        try:
            with nullcontext() if self._source is None else self._source._deferred(found):
                yield found
        finally:
            self._all_finite = before

    def _note_errors(self, columns: Float[Tensor, "P k"]) -> None:
        self._last_error = None if self._error_of is None else self._error_of(columns)
        if self._last_error is None:
            return
        lengths = torch.linalg.vector_norm(columns, dim=0, dtype=torch.float64)
        known = lengths > 0
        norms = torch.linalg.vector_norm(self._last_error, dim=0, dtype=torch.float64)[known] / lengths[known]
        forms = (self._last_error * columns).double().sum(0).abs()[known] / lengths[known].square()
        # An error that happens to be orthogonal to its vector would pass for none.
        forms = torch.maximum(forms, 2 / self.size**0.5 * norms)
        self._norm_error = max([self._norm_error, *norms.tolist()])
        self._form_error = max([self._form_error, *torch.minimum(forms, norms).tolist()])


@runtime_checkable
class HasOperator(Protocol):
    """What has an operator of its own, such as an :class:`~edgescope.Objective`, whose operator is its Hessian."""

    def operator(self) -> Operator:
        """The operator as it is now."""
        ...


OperatorLike: TypeAlias = Operator | HasOperator | Tensor | np.ndarray
"""What :func:`as_operator` takes: an operator, an Objective, or a dense symmetric matrix."""


@short_errors
def from_matrix(
    matrix: Num[Tensor, "P P"] | Num[np.ndarray, "P P"], shapes: Sequence[tuple[int, ...]] | None = None
) -> Operator:
    """A dense symmetric matrix as an operator.

    ``shapes`` are those of the tensors that a vector of length P is a concatenation of. Raises :class:`InputError` for
    a matrix that is not square, not finite or not symmetric (asymmetry above 1e-6 of the largest entry; 1e-3 in
    float32).
    """
    if isinstance(matrix, list | tuple):
        matrix = _from_rows(matrix)
    matrix = as_tensor("a matrix", matrix, "a symmetric matrix of real numbers")
    assert isinstance(matrix, Tensor)
    if not matrix.is_floating_point():
        matrix = matrix.double()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"a matrix of shape {tuple(matrix.shape)}", expected="a square matrix")
    if not matrix.shape[0]:
        raise InputError("a matrix of shape (0, 0)", expected="at least one row")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the matrix has entries that are NaN or infinite", expected="finite entries")
    slack = 1e-6 if matrix.dtype == torch.float64 else 1e-3
    asymmetry = float((matrix - matrix.T).abs().max())
    if asymmetry > slack * max(float(matrix.abs().max()), 1e-300):
        raise InputError(
            f"the matrix is not symmetric (largest |H - H^T| is {asymmetry:.3g})",
            expected="a symmetric matrix",
            hint="(H + H.T) / 2 if the asymmetry is due to rounding",
        )
    if shapes is not None and sum(torch.Size(s).numel() for s in shapes) != matrix.shape[0]:
        raise InputError(
            f"shapes {list(shapes)} have {sum(torch.Size(s).numel() for s in shapes)} entries",
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


def _from_rows(rows: Any) -> Tensor:
    try:
        return torch.as_tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            "a matrix given as rows of different lengths, or with entries that are not real numbers",
            expected="a square matrix",
        ) from error


@short_errors
def as_operator(operator: OperatorLike) -> Operator:
    """An operator from an operator, a dense symmetric matrix (tensor or array), or an object with ``operator()``."""
    if isinstance(operator, Operator):
        return operator
    if isinstance(operator, Tensor | np.ndarray):
        return from_matrix(operator)
    make = getattr(operator, "operator", None)
    if callable(make) and not isinstance(operator, type):
        made = make()
        if isinstance(made, Operator):
            return made
    raise InputError(
        f"{type_of(operator)} is not an operator",
        expected="an Objective, an Operator or a symmetric matrix",
    )


@checked(block=integer(1))
@in_plain_arithmetic
def to_matrix(operator: OperatorLike, block: int = 64) -> Float[Tensor, "P P"]:
    """The dense symmetric float64 matrix of an operator, from P products in blocks of ``block``, symmetrised.

    The products have the operator's own precision. Raises :class:`MemoryBudgetError` where P^2 numbers do not fit.
    """
    matrix = products_with_units(operator, block)
    return matrix.add_(matrix.T.clone()).div_(2)


def products_with_units(operator: OperatorLike, block: int = 64) -> Float[Tensor, "P P"]:
    """The products of an operator with all unit vectors, as rows in float64; symmetric up to rounding.

    Raises :class:`MemoryBudgetError` where P^2 numbers do not fit.
    """
    operator = as_operator(operator)
    size = operator.size
    require(2 * 8 * size**2, f"a dense matrix of size {size}", hint='method="slq" or a smaller model')
    matrix = torch.empty((size, size), dtype=torch.float64, device="cpu")
    with operator.held():
        for start in range(0, size, block):
            width = min(block, size - start)
            unit = torch.zeros((size, width), dtype=operator.dtype, device=operator.device)
            unit[start : start + width].fill_diagonal_(1)
            matrix[start : start + width] = (operator @ unit).T
    return matrix
