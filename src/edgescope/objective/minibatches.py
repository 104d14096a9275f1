"""An objective on random mini-batches of its data, in another precision, or in another mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

import torch

from edgescope.cost import Meter
from edgescope.errors import InputError, one_of
from edgescope.objective.batches import Batches, leading_size
from edgescope.objective.checks import refuse_precision
from edgescope.objective.curvature import Curvature
from edgescope.objective.drawn_samples import drawn
from edgescope.objective.modes import Flags, Mode
from edgescope.objective.objective import Objective
from edgescope.objective.problem import TrainingProblem
from edgescope.objective.processes import jointly
from edgescope.options import checked, integer, optional
from edgescope.short_errors import short_errors


@checked(size=integer(1), count=optional(integer(1)))
def mini_batches(
    objective: Objective, size: int, count: int | None = None, *, seed: int = 0, dtype: torch.dtype | None = None
) -> Iterator[Objective]:
    """``count`` objectives (None: without end), each on ``size`` samples drawn from those of ``objective``.

    Samples are drawn uniformly, without replacement within a mini-batch and anew for each, from ``seed`` alone. All
    share the live model, its loss function and mode, and are measured in ``dtype`` (None: as ``objective`` is). The
    first is checked and timed; the others do as it did. Cost: one pass over the data a mini-batch, without the model.

    Raises :class:`InputError` for a size that is not between 1 and the number of samples, or data that are sharded.
    """
    refuse_mini_batches(objective, size)
    if dtype is not None:
        refuse_precision(dtype)
    return _drawn(objective, size, count, seed, dtype)


def batches_of_size(objective: Objective, size: int, count: int, seed: int = 0) -> Iterator[Objective]:
    """Up to ``count`` objectives on ``size`` samples each: on batches of the data as they are, or else drawn.

    The data's own batches are taken where at least two have that size: what a network with batch normalisation,
    padded texts or graphs is trained on. Else they are drawn from ``seed``, as by :func:`mini_batches`, which says what
    is refused. Cost: one pass over the data, without the model.
    """
    own = [] if objective.group is not None else [b for b in objective._problem.batches if leading_size(b) == size]
    if len(own) < 2:
        yield from mini_batches(objective, size, count, seed=seed)
    for batch in own[:count] if len(own) >= 2 else []:
        yield objective_on(objective, batch, objective.dtype)


def refuse_mini_batches(objective: Objective, size: int) -> None:
    """InputError for a size that is more than the number of samples, or data that cannot be split or are sharded."""
    rows = objective._problem.batches.rows
    if size > rows:
        raise InputError(f"a batch size of {size}", expected=f"a whole number from 1 to {rows}, the number of samples")
    if objective.group is not None:
        raise InputError("mini-batches of data that are sharded over processes", hint="an objective of one process")
    if objective._problem.batches.uncut:
        raise InputError(
            "mini-batches of batches that cannot be split (graphs, sequences first)",
            hint="an objective on a smaller batch",
        )


@short_errors
def in_precision(objective: Objective, dtype: torch.dtype) -> Objective:
    """The same objective, measured in ``dtype``; itself where it already is."""
    refuse_precision(dtype)
    if objective.dtype == dtype:
        return objective
    return _again(objective, dtype=dtype)


@short_errors
def on_batch(objective: Objective, data: Any) -> Objective:
    """The same loss on other ``data``: one batch, or a list of those whose gradients were added up for one step.

    It shares the live model, loss function, mode, precision and l2 term, and weighs batches as ``objective`` does. With
    data that are sharded over processes, each gives its own, and all make the same calls. Copies the data, and
    evaluates nothing. Raises :class:`InputError` for data that are no batch, on all processes where they are on one.
    """
    with jointly(objective._summed):
        fresh = objective_on(objective, data, objective.dtype)
    batches = fresh._problem.batches
    fresh._problem.total = float(objective._summed(torch.tensor(batches.samples, dtype=torch.float64, device="cpu")))
    fresh._samples = int(objective._summed(torch.tensor(batches.rows, device="cpu")))
    cut = objective._problem.batches.cut
    if cut is not None and not fresh.couples_samples:
        batches.cut_to(cut)
    return fresh


@short_errors
def in_mode(objective: Objective, mode: Mode) -> Objective:
    """The same objective with the model in another ``mode``, as :class:`Objective` has them.

    Raises as :class:`Objective` does: NotDeterministicError for dropout in "train", InputError for an unknown mode.
    """
    one_of(mode, get_args(Mode), "mode")
    fresh = _again(objective, mode=mode)
    return objective if fresh.mode == objective.mode else fresh


def _again(objective: Objective, *, dtype: torch.dtype | None = None, mode: Mode | None = None) -> Objective:
    fresh = objective_on(objective, objective._problem.batches, dtype or objective.dtype, mode)
    fresh._problem.total, fresh._samples = objective._problem.total, objective._samples
    fresh._problem.batches.uncut = objective._problem.batches.uncut
    if not fresh.couples_samples:
        fresh._problem.batches.cut = objective._problem.batches.cut
    return fresh


def _drawn(
    objective: Objective, size: int, count: int | None, seed: int, dtype: torch.dtype | None
) -> Iterator[Objective]:
    first = None
    for batch in drawn(objective._problem.batches, size, count, seed):
        fresh = objective_on(objective, batch, dtype or objective.dtype)
        if first is None:
            first = fresh
        else:
            fresh._problem.batches.cut = first._problem.batches.cut
            fresh._curvature.planner.follow(first._curvature.planner)
            fresh._curvature.verified = first._curvature.verified
        yield fresh


def objective_on(objective: Objective, data: Any, dtype: torch.dtype, mode: Mode | None = None) -> Objective:
    """The same loss on other data, in another precision or mode, as its own objective; checked as the first one was."""
    fresh = copy.copy(objective)
    fresh.meter, fresh.dtype = Meter(), dtype
    fresh._flags = objective._flags if mode is None else Flags(objective.model, mode)
    old, planner = objective._problem, objective._curvature.planner
    old.tensors()  # a model that has changed is refused
    count = old.batches.count if old.batches.counted else None
    batches = Batches(data, count=count, dtype=dtype, device=objective.device, check=False)
    fresh._problem = TrainingProblem(
        objective.model,
        objective.loss_fn,
        batches,
        dtype=dtype,
        device=objective.device,
        chosen=old.chosen,
        meter=fresh.meter,
    )
    fresh._problem.trains, fresh._problem.takes_gradients = old.trains, old.takes_gradients
    fresh._samples = batches.rows
    planner = planner.again(fresh._problem, fresh.couples_samples)
    fresh._curvature = Curvature(fresh._problem, planner, fresh._flags, verified=objective._curvature.verified)
    return fresh
