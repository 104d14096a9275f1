"""What was found out about a loss in this process, so that the next objective of the same kind need not ask again."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.graph import Node

from edgescope.objective.few_samples import reduced
from edgescope.objective.fingerprint import mark_of
from edgescope.objective.modes import Flags
from edgescope.objective.operations import nodes_of
from edgescope.objective.problem import Point, TrainingProblem
from edgescope.objective.second_order import suspects_of

MOST = 64
"""Of how many kinds of losses findings are kept; those that were asked for longest ago are forgotten."""


@dataclass
class Findings:
    """Whether second derivatives agreed with differences of gradients, and the fastest path for each block width."""

    verified: bool = False
    paths: dict[int, str] = field(default_factory=dict)


def findings(problem: TrainingProblem, point: Point, flags: Flags, *others: Hashable) -> Findings:
    """What is known of losses like this one, to be added to; nothing where a loss is to be looked at each time.

    Losses are alike that have the same loss function, classes of modules, shapes and trainable parameters, mode,
    precision, device and data, whose autograd graph on a few samples has the same operations with the same options on
    the same shapes, and ``others`` that the caller adds. Values of parameters do not matter, so that a loss with
    operations that are wrong at some values alone, that are written in Python, or that leave out gradients (embeddings
    with a padding row) is like no other. Nothing that is remembered is part of a result: it only saves checks and
    timings. Cost: a loss on a few samples.
    """
    few, place = reduced(problem, point, problem.dtype)
    (chunk,) = few.batches.chunks()
    loss = few.loss_of(place.tensors, place.constants, chunk.batch)
    if not isinstance(loss, torch.Tensor) or suspects_of(loss):
        return Findings()
    graph = tuple(map(_operation, nodes_of([loss])))
    if any(name == "_saved_padding_idx" and 0 <= value < 2**63 for *_, options in graph for name, value in options):
        return Findings()
    modules = tuple((name, type(part)) for name, part in problem.model.named_modules())
    training = tuple(sorted(name for name, part in problem.model.named_modules() if part.training))
    slots = tuple((slot.name, slot.shape) for slot in problem.layout)
    data = problem.batches.rows, problem.batches.number, problem.batches.largest, mark_of(chunk.batch)
    settings = problem.dtype, problem.device, flags.mode, problem.takes_gradients, torch.get_num_threads()
    try:
        key = (graph, modules, training, slots, data, settings, _reference(problem.loss_fn), others)
        hash(key)
    except TypeError:  # a loss function that cannot be compared
        return Findings()
    found = _known.pop(key, None) or Findings()
    _known[key] = found  # the last is the one that was asked for last
    while len(_known) > MOST:
        _known.pop(next(iter(_known)))
    return found


def forget_choices() -> None:
    """Forget which checks have passed and which derivative paths were fastest in this process.

    An :class:`~edgescope.Objective` takes over what an earlier one of the same loss function, model classes, shapes,
    mode, precision and device found out, which saves time and changes no result by more than rounding. After this the
    next one looks again.
    """
    _known.clear()


_known: dict[Any, Findings] = {}


def _operation(node: Node) -> tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """An operation of a graph: its name, the shapes of its results, and its options."""
    shapes = tuple((tuple(meta.shape), meta.dtype) for meta in node._input_metadata if meta is not None)
    options: list[tuple[str, Any]] = []
    for name in dir(node):
        if name.startswith("_saved_"):
            value = getattr(node, name)
            if isinstance(value, bool | int | float | str):
                options.append((name, value))
            elif isinstance(value, tuple | list) and all(isinstance(one, bool | int | float) for one in value):
                options.append((name, tuple(value)))
    return node.name(), shapes, tuple(options)


def _reference(thing: Any) -> Hashable:
    """A thing to compare by, which is not kept alive: it may hold all of the data."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return type(thing), tuple(_reference(getattr(thing, f.name)) for f in dataclasses.fields(thing))
    if thing is None or isinstance(thing, bool | int | float | str | type):
        return thing
    if isinstance(thing, tuple):
        return tuple(map(_reference, thing))
    hash(thing)
    try:
        return weakref.ref(thing)
    except TypeError:
        if callable(thing) and type(thing).__name__ == "builtin_function_or_method":
            return thing
        raise
