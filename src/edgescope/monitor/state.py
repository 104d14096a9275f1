"""The state of a monitor as a checkpoint keeps it: plain values that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.measures import Measure

ARRAY: Final = "numpy.ndarray"
"""The one key of a dict that stands for an array of NumPy, with its values as a tensor."""


def plain_state(state: Any, where: str = "the state of the monitor") -> Any:
    """``state`` of nothing but dicts, lists, tuples, tensors, numbers, text, bytes, None; InputError that names others.

    Scalars of NumPy become Python's, arrays a dict with a tensor, and tensors leave their graphs.
    """
    if state is None or type(state) in (bool, int, float, str, bytes):
        return state
    if isinstance(state, np.generic):
        return plain_state(state.item(), where)
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, Mapping):
        return {plain_state(key, where): plain_state(value, f"{where}, '{key}'") for key, value in state.items()}
    if isinstance(state, list | tuple | collections.deque):
        items = [plain_state(item, f"{where}, item {i}") for i, item in enumerate(state)]
        return tuple(items) if isinstance(state, tuple) else items
    if isinstance(state, np.ndarray) and state.dtype != object:
        return {ARRAY: torch.from_numpy(state.copy())}
    if isinstance(state, bool | int | float | str):  # of a class of its own
        kind = next(kind for kind in (bool, int, float, str) if isinstance(state, kind))
        return kind(state)
    raise InputError(
        f"{where} is a {type(state).__name__}, which a checkpoint cannot hold",
        expected="tensors, arrays, numbers, text, None, and lists, tuples and dicts of them",
    )


def restored(state: Any) -> Any:
    """What :func:`plain_state` was given, in new containers."""
    if isinstance(state, dict):
        if set(state) == {ARRAY}:
            return state[ARRAY].cpu().numpy().copy()
        return {key: restored(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(restored(item) for item in state)
    return state


def checked_state(state: Any, measures: Sequence[Measure], size: int) -> dict[str, Any]:
    """The state for a monitor with these ``measures`` and ``size`` parameters; InputError where it is of another."""
    if not isinstance(state, dict) or not {"steps", "measures", "latest", "initial"} <= state.keys():
        raise InputError(
            f"the state of a monitor is a {type(state).__name__} without what belongs to one",
            expected="what monitor.state_dict() gave",
        )
    names = {measure.name for measure in measures}
    if set(state["measures"]) != names:
        raise InputError(
            f"a state with the measures {', '.join(sorted(state['measures']))}",
            expected=f"one with {', '.join(sorted(names))}",
            hint="a Monitor with measures= as then",
        )
    initial = state["initial"]
    if initial is not None and initial.numel() != size:
        raise InputError(f"a state of {initial.numel()} parameters", expected=f"one of {size}, as the objective has")
    found: dict[str, Any] = restored(state)
    return found
