"""Arguments of closed forms: numbers or arrays in, float64, the first value that is out of range named."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgescope.errors import InputError

Numbers = npt.ArrayLike
Array = npt.NDArray[np.float64]


def as_numbers(value: Numbers, name: str) -> Array:
    """``value`` as finite float64 numbers of any shape."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {str(value)[:60]!r}", expected="a number or an array of numbers") from None
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
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}", expected=expected) from None
    if number < least:
        raise InputError(f"{name} is {number}", expected=expected)
    return number


def require(numbers: Array, good: npt.NDArray[np.bool_], name: str, expected: str, hint: str | None = None) -> Array:
    """``numbers``, or an :class:`InputError` that names the first which is not ``good``, and where it stands."""
    if not np.all(good):
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        where = f"[{', '.join(map(str, at))}]" if at else ""
        raise InputError(
            f"{name}{where} is {np.broadcast_to(numbers, good.shape)[at]:.10g}", expected=expected, hint=hint
        )
    return numbers


def plain(numbers: Any) -> Any:
    """Arrays as they are, 0-dim ones as Python numbers."""
    return numbers.item() if np.ndim(numbers) == 0 else numbers


def elementwise(function: Callable[..., float], *arrays: Array) -> Array:
    """``function`` of plain numbers, over the elements of arrays that are broadcast against each other."""
    spread = np.broadcast_arrays(*arrays)
    values = [function(*map(float, numbers)) for numbers in zip(*(array.ravel() for array in spread), strict=True)]
    return np.array(values, dtype=np.float64).reshape(spread[0].shape)
