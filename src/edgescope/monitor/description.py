"""What a record says of the run that a monitor watches: its optimizers, measures and tensors, and how long it took."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from edgescope.measures import Measure
from edgescope.objective import Objective
from edgescope.store import Record

ALWAYS: Final = ("lr", "momentum", "betas", "weight_decay")
"""Options that are described also where they have their default; any other only where it has not."""


class Stopwatch:
    """The seconds from the first to the last look at it."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def look(self) -> None:
        """Note the time."""
        self._last = time.perf_counter()
        if self._first is None:
            self._first = self._last

    def add_to(self, record: Record) -> None:
        """Add them to the ``seconds`` that the run took, in this session and those before; nothing if none looked."""
        if self._first is not None:
            before = record.info.get("seconds")
            earlier = before if isinstance(before, int | float) else 0.0
            record.set_info("seconds", earlier + self._last - self._first)


def describe_run(
    record: Record, objective: Objective, optimizers: Sequence[torch.optim.Optimizer], measures: Sequence[Measure]
) -> None:
    """Note ``optimizers``, ``measures`` and ``tensors`` in the info of a record, where they are not there yet."""
    known = record.info
    described = {
        "optimizers": [describe_optimizer(optimizer) for optimizer in optimizers],
        "measures": {measure.name: describe_measure(measure) for measure in measures},
        "tensors": [slot.name for slot in objective.layout],
    }
    for key, value in described.items():
        if key not in known and value:
            record.set_info(key, value)


def describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """``name`` of an optimizer's class and, for each of its ``groups``, the options and the number of ``parameters``.

    Of the options those in ``ALWAYS``, and other arguments of the class that differ from their default.
    """
    found: dict[str, Any] = {"name": type(optimizer).__name__, "groups": []}
    base = getattr(optimizer, "base", None)
    if isinstance(base, torch.optim.Optimizer):
        found["base"] = type(base).__name__
    kinds = [type(optimizer)] + ([type(base)] if "base" in found else [])
    defaults = {name: option.default for kind in kinds for name, option in inspect.signature(kind).parameters.items()}
    for group in optimizer.param_groups:
        options = {name: _plain(value) for name, value in group.items() if name != "params"}
        kept = {
            name: value
            for name, value in options.items()
            if value is not None and (name in ALWAYS or (name in defaults and value != _plain(defaults[name])))
        }
        found["groups"].append(kept | {"parameters": sum(tensor.numel() for tensor in group["params"])})
    return found


def describe_measure(measure: Measure) -> dict[str, str]:
    """``title``, ``unit`` and ``source`` of a measure, as far as it has them."""
    texts = {key: getattr(measure, key, None) for key in ("title", "unit", "source")}
    return {key: text for key, text in texts.items() if isinstance(text, str) and text}


def _plain(value: Any) -> Any:
    """A number, a truth value, a text or a list of numbers as JSON holds them; None for anything else."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    if isinstance(value, tuple | list):
        plain = [_plain(each) for each in value]
        return None if None in plain or not plain else plain
    return value if isinstance(value, bool | int | float | str) else None
