"""An objective again on other terms: on random mini-batches of its data, or in another precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import InputError
from edgescope.objective.batches import Batch, Batches, leading_size
from edgescope.objective.objective import Objective


def mini_batches(
    objective: Objective, size: int, count: int | None = None, *, seed: int = 0, dtype: torch.dtype | None = None
) -> Iterator[Objective]:
    """``count`` objectives (None: without end), each on ``size`` samples drawn from those of ``objective``.

    Samples are drawn uniformly, without replacement within a mini-batch and anew for each, from ``seed`` alone. All
    share the live model, its loss function and mode, and are measured in ``dtype`` (None: as ``objective`` is). The
    first is checked and timed; the others do as it did. Cost: one pass over the data a mini-batch, without the model.

    Raises :class:`InputError` for a size that is not between 1 and the number of samples, or data that are sharded.
    """
    rows = objective._problem.batches.rows
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= rows:
        raise InputError(f"a batch size of {size}", expected=f"a whole number from 1 to {rows}, the number of samples")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise InputError(f"{count} mini-batches", expected="at least 1")
    if objective.group is not None:
        raise InputError("mini-batches of data that are sharded over processes", hint="an objective of one process")
    return _drawn(objective, size, count, seed, dtype)


def in_precision(objective: Objective, dtype: torch.dtype) -> Objective:
    """The same objective, measured in ``dtype``; itself where it already is."""
    if objective.dtype == dtype:
        return objective
    return _again(objective, objective._problem.batches, dtype, check=objective._planner.checks, group=objective.group)


def _drawn(
    objective: Objective, size: int, count: int | None, seed: int, dtype: torch.dtype | None
) -> Iterator[Objective]:
    batches, first = objective._problem.batches, None
    generator = torch.Generator().manual_seed(seed)
    made = 0
    while count is None or made < count:
        chosen = torch.randperm(batches.rows, generator=generator)[:size].sort().values
        fresh = _again(
            objective,
            _joined(batches, chosen),
            dtype or objective.dtype,
            check=first is None and objective._planner.checks,
        )
        if first is None:
            first = fresh
        else:
            fresh._problem.batches.cut = first._problem.batches.cut
            fresh._planner.follow(first._planner)
        yield fresh
        made += 1


def _again(objective: Objective, data: Any, dtype: torch.dtype, *, check: bool, group: Any = None) -> Objective:
    batches, planner = objective._problem.batches, objective._planner
    return Objective(
        objective.model,
        objective.loss_fn,
        data,
        mode=objective.mode,
        l2=objective.l2,
        dtype=dtype,
        device=objective.device,
        count=batches.count,
        path=planner.path,
        threads=planner.threads or "auto",
        memory_limit=planner.memory_limit,
        group=group,
        check=check,
    )


def _joined(batches: Batches, chosen: Int[Tensor, " b"]) -> Batch:
    """The chosen samples, numbered through all batches, as one batch."""
    met: list[Batch] = []
    places: list[tuple[int, Int[Tensor, " j"]]] = []
    start = 0
    for batch in batches:
        size = leading_size(batch)
        inside = chosen[(chosen >= start) & (chosen < start + size)] - start
        if len(inside):
            met.append(batch)
            places.append((size, inside))
        start += size

    def join(*leaves: Any) -> Any:
        runs = [
            isinstance(t, Tensor) and t.ndim > 0 and t.shape[0] == n for t, (n, _) in zip(leaves, places, strict=True)
        ]
        rows = (t[inside.to(t.device)] for t, (_, inside) in zip(leaves, places, strict=True))
        return torch.cat(list(rows)) if all(runs) else leaves[0]

    try:
        return pytree.tree_map(join, *met)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "samples of different batches do not fit into one mini-batch", expected="batches of equal sample shapes"
        ) from error
