"""Checks of array arguments: real tensors and NumPy arrays are accepted, anything else is one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.options import type_of


def as_tensor(what: str, value: Any, expected: str, hint: str | None = None) -> Tensor:
    """``value``, a tensor or a NumPy array, as a tensor that shares its memory where possible.

    Raises :class:`InputError` for anything else and for complex entries; ``what`` names the argument, such as
    "start vectors".
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        value = torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
    if isinstance(value, np.ndarray) or (isinstance(value, Tensor) and value.dtype.is_complex):
        kind = str(value.dtype).removeprefix("torch.")
        raise InputError(f"{what} with entries of {kind}", expected=expected, hint=hint)
    if not isinstance(value, Tensor):
        raise InputError(f"{what} given as {type_of(value)}", expected=expected, hint=hint)
    return value
