"""Checks of columns of numbers: of equal length, finite, and not constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError

Column: TypeAlias = Sequence[float] | np.ndarray
"""One number for each point."""

MIN_POINTS = 3
"""With two points every rank correlation is -1, 0 or 1."""


def checked_columns(columns: Mapping[str, Any]) -> list[Float[np.ndarray, " n"]]:
    """The columns as float64 arrays of equal length n. Raises :class:`InputError` that names an unusable column."""
    found: list[np.ndarray] = []
    for name, values in columns.items():
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{name} has entries that are not numbers", expected="one number for each point"
            ) from error
        if array.ndim != 1:
            raise InputError(f"{name} has shape {array.shape}", expected="one number for each point")
        if found and array.size != found[0].size:
            raise InputError(f"{name} has {array.size} entries", expected=f"{found[0].size}, as {next(iter(columns))}")
        found.append(array)
    if found[0].size < MIN_POINTS:
        raise InputError(f"a rank correlation of {found[0].size} points", expected=f"at least {MIN_POINTS}")
    for name, array in zip(columns, found, strict=True):
        wrong = int((~np.isfinite(array)).sum())
        if wrong:
            raise InputError(
                f"{wrong} of {array.size} entries of {name} are NaN or infinite",
                expected="finite numbers",
                hint="leaving out the runs that diverged",
            )
        if (array == array[0]).all():
            raise InputError(f"{name} is constant ({array[0]:g})", expected="a column that varies")
    return found
