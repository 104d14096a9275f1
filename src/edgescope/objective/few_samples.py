"""A problem reduced to a few samples, in any precision, for checks that evaluate it many times."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from edgescope.objective.batches import Batch, Batches, Chunk, leading_size, tensors_of
from edgescope.objective.problem import Point, TrainingProblem

SAMPLES = 32
"""How many samples, where the model is small."""

LEAST = 2
"""How many samples at least: losses that compare samples are constant on a single one."""

WORK = 2**27
"""Parameters times positions (tokens of a sequence) of all samples, up to which they are not fewer than these."""

SHARE = 1 / 16
"""Of all samples, above which a large model is not evaluated on more than the least."""


def few_rows(problem: TrainingProblem, most: int = SAMPLES, least: int = LEAST, work: float = WORK) -> int:
    """How many samples a check evaluates: ``most`` where that is little work for this model, else fewer.

    Checks take some ten gradients of these samples, in double precision. On a large model on long sequences a few of
    them hold more tokens than there are parameters of one kind, and each passes through every operation: more samples
    would show nothing else, and 32 of them may be all data. Never fewer where samples are coupled by batch statistics,
    which those of two samples are not like.
    """
    each = problem.layout.size * _positions(problem.batches.heaviest)
    if most * each <= work or any(isinstance(part, _BatchNorm) and part.training for part in problem.model.modules()):
        return most
    return min(most, max(least, int(min(work / each, SHARE * problem.batches.rows))))


def _positions(batch: Batch) -> int:
    """At how many places of a sample the model's parameters are used: its tokens, where its numbers are such."""
    size = leading_size(batch)
    found = 1
    for leaf in tensors_of(batch):
        if leaf.ndim > 1 and len(leaf) == size:
            found = max(found, leaf[0].numel() if not leaf.is_floating_point() else int(leaf[0, ..., 0].numel()))
    return found


class _ReducedData:
    """A batch in the place of all data."""

    samples = 1.0

    def __init__(self, batch: Batch) -> None:
        self._batch, self.rows = batch, leading_size(batch)

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk(1.0, self._batch)


def reduced(problem: TrainingProblem, point: Point, dtype: torch.dtype) -> tuple[TrainingProblem, Point]:
    """The problem on the first few samples of its heaviest batch and in this precision, and the point in it."""

    def convert(leaf: object) -> object:
        return leaf.detach().to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    batch = pytree.tree_map(convert, problem.batches.some(few_rows(problem)))
    small = copy.copy(problem)
    small.batches = cast(Batches, _ReducedData(batch))
    small.total = problem.total / problem.batches.samples  # 1, and more where a group shares the data
    small.dtype = dtype
    constants = {name: c.to(dtype) if c.is_floating_point() else c for name, c in point.constants.items()}
    return small, point_at(small, point.flat.to(dtype), constants)


def point_at(problem: TrainingProblem, flat: Float[Tensor, " P"], constants: dict[str, Tensor]) -> Point:
    """A point for checks: its tensors are parts of ``flat``, without memory of their own."""
    return Point(flat, [piece.detach().requires_grad_() for piece in problem.layout.split(flat)], constants)
