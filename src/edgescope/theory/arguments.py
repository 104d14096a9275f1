"""Checks of the arguments of closed forms: numbers or arrays, converted to float64, with errors that name the value."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgescope.errors import InputError
from edgescope.options import HIGHEST, shown

Numbers = npt.ArrayLike
Array = npt.NDArray[np.float64]
Scalars = Array | np.float64  # what NumPy makes of an array without axes is no array


def as_numbers(value: Numbers, name: str) -> Array:
    """``value`` as finite float64 numbers of any shape."""
    try:
        if np.asarray(value).dtype.kind in "bSU":  # which NumPy would turn into numbers
            raise TypeError("truth values or text")
        numbers = np.asarray(value, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        raise InputError(f"{name} is {shown(value)}", expected="a number or an array of numbers") from None
    return require(numbers, np.isfinite(numbers), name, "finite numbers")


def as_positive(value: Numbers, name: str) -> Array:
    """``value`` as finite float64 numbers above zero, of any shape."""
    numbers = as_numbers(value, name)
    return require(numbers, numbers > 0, name, "positive numbers")


def positive_number(value: Any, name: str) -> float:
    """``value`` as one finite number above zero."""
    return float(as_positive(one_number(value, name), name))


def one_number(value: Any, name: str) -> float:
    """``value`` as one finite number."""
    numbers = as_numbers(value, name)
    if numbers.ndim:
        raise InputError(f"{name} has shape {numbers.shape}", expected="one number")
    return float(numbers)


def whole_number(value: Any, name: str, least: int) -> int:
    """``value`` as a whole number that is at least ``least``."""
    expected = f"a whole number, at least {least}"
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {shown(value)}", expected=expected) from None
    if not least <= number <= HIGHEST or isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}", expected=expected + ("" if number < least else ", below 2^63"))
    return number


def require(
    numbers: Array, good: npt.NDArray[np.bool_] | np.bool_, name: str, expected: str, hint: str | None = None
) -> Array:
    """``numbers``. Raises :class:`InputError` that names the first one which is not ``good``, and its index."""
    if not np.all(good):
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        where = f"[{', '.join(map(str, at))}]" if at else ""
        raise InputError(
            f"{name}{where} is {np.broadcast_to(numbers, good.shape)[at]:.10g}", expected=expected, hint=hint
        )
    return numbers


def plain(numbers: Any) -> Any:
    """Arrays unchanged, 0-dimensional arrays as Python numbers."""
    return numbers.item() if np.ndim(numbers) == 0 else numbers


def elementwise(function: Callable[..., float], *arrays: Scalars) -> Array:
    """``function`` of plain numbers, over the elements of arrays that are broadcast against each other."""
    spread = np.broadcast_arrays(*arrays)
    values = [function(*map(float, numbers)) for numbers in zip(*(array.ravel() for array in spread), strict=True)]
    return np.array(values, dtype=np.float64).reshape(spread[0].shape)
