"""Reading pickles of arrays without letting them run anything."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from edgescope.errors import InputError


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


_reconstruct = np.empty(0, np.uint8).__reduce__()[0]

# All that a pickled array of numbers refers to, under the module names of old and new numpy.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which arrays have no use for")
        return _ADMITTED[module, name]


def load_arrays(data: bytes, name: str) -> Any:
    """The numbers, texts, lists, dicts and arrays in a pickle; ``name`` is what an error calls it.

    Anything else that the pickle refers to is refused before it is touched, so a malicious one cannot run code.
    Pickles of Python 2 are read too, their texts as latin-1. Raises :class:`InputError`.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"'{name}' is not a readable pickle of arrays ({error})") from error
