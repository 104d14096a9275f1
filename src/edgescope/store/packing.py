"""Nested state (of optimizers, generators, trackers) as named tensors and JSON, and back; nothing is pickled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgescope.errors import InputError, RecordError


def pack_state(prefix: str, state: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take ``state`` apart into tensors named ``prefix.path`` and a structure that JSON can hold, ``{prefix: ...}``.

    ``state`` nests dicts, lists and tuples around tensors, arrays, numbers, text, bytes, booleans and None, as the
    ``state_dict()`` of any optimizer does; dict keys of the same kinds. Floats survive exactly, NaN included. The
    tensors share memory with ``state``: save them before the next step. Anything else raises :class:`InputError`,
    which names where it lies.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, {prefix: _take_apart(state, prefix, tensors)}


def unpack_state(prefix: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Any:
    """What :func:`pack_state` took apart; :class:`RecordError` where ``tensors`` and ``meta`` do not hold it."""
    try:
        return _put_together(meta[prefix], tensors)
    except KeyError as error:
        raise RecordError(f"the checkpoint holds no {error} of state '{prefix}'") from error


def _take_apart(thing: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    # JSON keeps None, booleans, integers of any size, floats (by their shortest exact form, and NaN) and text as they
    # are; everything else becomes an object with one key that says what it is.
    if isinstance(thing, np.generic):
        thing = thing.item()
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Tensor | np.ndarray):
        name = path
        while name in tensors:  # the keys 0 and "0" of one dict
            name += "'"
        try:
            tensors[name] = thing.detach() if isinstance(thing, Tensor) else torch.from_numpy(thing.copy())
        except (TypeError, ValueError) as error:
            raise InputError(f"state '{path}' is an array of {thing.dtype}", expected="an array of numbers") from error
        return {"tensor" if isinstance(thing, Tensor) else "array": name}
    if isinstance(thing, bytes):
        return {"bytes": thing.hex()}
    if isinstance(thing, dict):
        keys = [_take_apart(key, f"{path}.key", tensors) for key in thing]
        values = [_take_apart(value, f"{path}.{key}", tensors) for key, value in thing.items()]
        return {"dict": [list(pair) for pair in zip(keys, values, strict=True)]}
    if isinstance(thing, list | tuple):
        items = [_take_apart(item, f"{path}.{i}", tensors) for i, item in enumerate(thing)]
        return {"list" if isinstance(thing, list) else "tuple": items}
    raise InputError(
        f"state '{path}' is a {type(thing).__name__}, which a checkpoint cannot store",
        expected="tensors, arrays, numbers, text, None, and lists, tuples and dicts of them",
    )


def _put_together(thing: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(thing, dict):
        return thing
    ((kind, content),) = thing.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "dict":
        return {_put_together(key, tensors): _put_together(value, tensors) for key, value in content}
    items = [_put_together(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
