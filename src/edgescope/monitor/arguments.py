"""What a monitor can be made of: its arguments, checked before anything is attached."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgescope.errors import InputError, RecordError, one_of
from edgescope.measures import MEASURES, Reading
from edgescope.measures.arguments import kind_of
from edgescope.measures.rules import rules_of
from edgescope.objective import Objective
from edgescope.optim.sgd import SGDRule
from edgescope.store import Record


def checked_record(record: Any) -> Record:
    """An open record to write to."""
    if not isinstance(record, Record):
        raise InputError(f"record= is {kind_of(record)}", expected="an edgescope.Record", hint="out= with its folder")
    try:
        _ = record.status
    except RecordError as error:
        raise InputError(f"record= cannot be written to: {error}") from None
    return record


def checked_folder(out: Any) -> Any:
    """A path for a new record."""
    if out is not None and not isinstance(out, str | os.PathLike):
        hint = "record= with it" if isinstance(out, Record) else None
        raise InputError(f"out= is {kind_of(out)}", expected="the path of a folder", hint=hint)
    return out


def checked_on_reading(function: Any) -> Any:
    """A function to call with each step's readings, or None."""
    if function is not None and not callable(function):
        raise InputError(f"on_reading= is {kind_of(function)}", expected="a function of a step and its readings")
    return function


def value_of(latest: Mapping[str, Reading], measures: Sequence[str], measure: str, part: str | None) -> float | None:
    """The value of one part of the ``latest`` readings; InputError for a name that is no measure's."""
    if measure not in MEASURES:
        one_of(measure, measures, "measure")
    values = latest[measure].values if measure in latest else {}
    if part is None:
        part = "" if "" in values else next(iter(values), "")
    return values.get(part)


def with_mini_batch_measure(
    measures: Sequence[str],
    objective: Objective,
    optimizers: Sequence[torch.optim.Optimizer],
    batch_size: int | None,
) -> tuple[str, ...]:
    """These measures, and with mini-batches what says how near the edge they are, beside the ratio of all data.

    That is "batch_sharpness" for SGD, where it is known at which value training settles, and optimizers without a rule,
    on samples that are measured each by itself; else "batch_ratio". Only in one process, with more samples than a
    mini-batch has.
    """
    if objective.group is not None or batch_size is None or batch_size >= objective.samples:
        return tuple(measures)
    rule = rules_of(optimizers, objective.tensors).together
    plain = rule is None or all(isinstance(one, SGDRule) for one in rule.rules)
    return (*measures, "batch_sharpness" if plain and not objective.couples_samples else "batch_ratio")
