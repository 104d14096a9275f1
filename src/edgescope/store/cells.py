"""What one cell of a record holds: a number (NaN and infinities too), an array as npy bytes, or JSON."""

from __future__ import annotations

import io
import json
import math
import os
from typing import Any

import numpy as np

from edgescope.errors import InputError


def encode_number(value: Any, where: str) -> float | str | None:
    """A float for SQLite, exactly; NaN as the text ``nan``, because SQLite would make it NULL. None stays None."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a torch tensor of several numbers
        raise InputError(f"{where} is a {type(value).__name__}", expected="one real number") from error
    return "nan" if math.isnan(number) else number


def decode_number(cell: float | str | None) -> float | None:
    """The number in a cell; ValueError or TypeError where something else was written there."""
    return None if cell is None else float(cell)


def encode_array(array: Any, where: str) -> bytes:
    """The npy bytes of an array, with dtype and shape; :class:`InputError` for Python objects (nothing is pickled)."""
    buffer = io.BytesIO()
    try:
        np.save(buffer, np.asarray(array), allow_pickle=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be stored as an array", expected="an array of numbers") from error
    return buffer.getvalue()


def decode_array(cell: bytes) -> np.ndarray:
    """The array in npy bytes; ValueError where they are not whole, or their header promises what they lack."""
    stream = io.BytesIO(cell)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        content = memoryview(cell)[stream.tell() :]
        # numpy would take memory for what the header says, and only then look for it.
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
            raise ValueError("its content is not what its header says")
        return np.ndarray(shape, dtype, content, order="F" if fortran else "C").copy("K")
    except Exception as error:  # numpy reads headers as Python text, which can fail in any way
        raise ValueError(f"no array: {error}") from error


def encode_json(value: Any, where: str) -> str:
    """JSON, with paths as text and NumPy scalars as numbers; :class:`InputError` for what JSON cannot hold."""
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where} cannot be stored as JSON ({error})", expected="numbers, text, lists, dicts"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")
