"""A problem reduced to a few samples, in any precision, for checks that evaluate it many times."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.objective.batches import Batch, Batches, Chunk
from edgescope.objective.problem import Point, Problem

SAMPLES = 32


class _OneBatch:
    """A batch in the place of all data."""

    samples = 1.0

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk(1.0, self._batch)


def reduced(problem: Problem, point: Point, dtype: torch.dtype) -> tuple[Problem, Point]:
    """The problem on the first samples of its heaviest batch and in this precision, and the point in it."""

    def convert(leaf: object) -> object:
        return leaf.detach().to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    batch = pytree.tree_map(convert, problem.batches.some(SAMPLES))
    small = copy.copy(problem)
    small.batches = cast(Batches, _OneBatch(batch))
    small.total = problem.total / problem.batches.samples  # 1, and more where a group shares the data
    small.dtype = dtype
    constants = {name: c.to(dtype) if c.is_floating_point() else c for name, c in point.constants.items()}
    return small, point_at(small, point.flat.to(dtype), constants)


def point_at(problem: Problem, flat: Float[Tensor, " P"], constants: dict[str, Tensor]) -> Point:
    return Point(flat, [piece.clone().requires_grad_() for piece in problem.layout.split(flat)], constants)
