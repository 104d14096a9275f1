"""Choosing a few samples of the data that show what the loss of a batch is a mean over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.objective.batches import Batch, Batches, leading_size, rows_of
from edgescope.objective.denominators import Denominator, Targets
from edgescope.objective.drawn_samples import joined

SPREAD = 96
"""How many samples are taken from all over the data; no more than the largest batch has, or 2 a piece."""

PIECES = 6
"""In how many pieces these are evaluated."""


@dataclass(frozen=True)
class Survey:
    """Samples that can stand together in a batch, since they have one shape.

    ``extremes`` are batches of one sample, those that a denominator weighs least and most, if not all the same.
    ``rows`` are samples from all over the data, as one batch, and ``order`` is the one in which they should be tried.
    ``pieces`` are batches of several of them. ``shapes`` is how many shapes the samples of the data have.
    ``weightless`` are the denominators that weigh no sample of the data at all.
    """

    extremes: list[Batch]
    rows: Batch
    order: list[int]
    pieces: list[Batch]
    shapes: int
    weightless: list[Denominator]

    def singles(self) -> Iterator[Batch]:
        """Batches of one sample, in the order in which they should be tried."""
        yield from self.extremes
        for number in self.order:
            yield rows_of(self.rows, torch.tensor([number], device="cpu"))


def survey(batches: Batches, denominators: Sequence[Denominator]) -> Survey:
    """Look at all samples for those that tell the denominators apart. Cost: a pass over the data, without the model."""
    groups: dict[Any, _Group] = {}
    known = list(denominators)
    spread = torch.linspace(0, batches.rows - 1, min(SPREAD, batches.rows), device="cpu").round().long()
    start = 0
    for number, batch in enumerate(batches):
        size = leading_size(batch)
        group = groups.setdefault(_shape(batch, size), _Group())
        group.size += size
        here = spread[(spread >= start) & (spread < start + size)] - start
        if len(here):
            group.picked.append(rows_of(batch, here))
            group.places += [(number, place) for place in here.tolist()]
        known = [denominator for denominator in known if group.weigh(denominator, number, batch)]
        start += size
    group = max((g for g in groups.values() if g.places), key=lambda g: g.size)
    weightless = [d for d in known if all(g.extremes[d].most.weight == 0 for g in groups.values())]
    extremes = {row.place: row.batch for d in known for row in group.extremes[d].rows()}
    rows = joined(group.picked, torch.arange(len(group.places), device="cpu"))
    order = [number for number in _order(rows, known) if group.places[number] not in extremes]
    return Survey(list(extremes.values()), rows, order, _pieces(rows, batches.largest), len(groups), weightless)


@dataclass(frozen=True)
class _Row:
    """A sample as a batch of one, where it stands (the number of its batch, its row), and a weight of it."""

    weight: float
    place: tuple[int, int] = (-1, -1)
    batch: Batch = None


@dataclass
class _Extremes:
    """The samples that a denominator weighs least, of those that it weighs at all, and most, and one not at all."""

    least: _Row = _Row(math.inf)
    most: _Row = _Row(0.0)
    none: _Row | None = None

    def look(self, weights: Tensor, number: int, batch: Batch) -> None:
        def row(weight: float, place: float) -> _Row:
            return _Row(weight, (number, int(place)), rows_of(batch, torch.tensor([int(place)], device="cpu")))

        least, most, none = torch.where(weights > 0, weights, math.inf).min(0), weights.max(0), weights.min(0)
        found = torch.stack([part for pair in (least, most, none) for part in pair]).tolist()  # one wait
        if found[0] < self.least.weight:
            self.least = row(*found[0:2])
        if found[2] > self.most.weight:
            self.most = row(*found[2:4])
        if self.none is None and not found[4]:
            self.none = row(*found[4:6])

    def rows(self) -> list[_Row]:
        """The samples, where the denominator does not weigh all the same."""
        if self.none is None and self.least.weight == self.most.weight:
            return []
        return [row for row in (self.least, self.most, self.none) if row is not None and row.batch is not None]


@dataclass
class _Group:
    """Samples of one shape: their number, those that were picked from all over the data, and the extreme ones."""

    size: int = 0
    picked: list[Batch] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    extremes: dict[Denominator, _Extremes] = field(default_factory=dict)

    def weigh(self, denominator: Denominator, number: int, batch: Batch) -> bool:
        """Look at the weights of a batch; whether it has such weights, none of them negative."""
        try:
            weights = denominator.rows(batch).double()
        except (RuntimeError, IndexError, StopIteration):
            return False
        if not bool((weights >= 0).all()):
            return False
        self.extremes.setdefault(denominator, _Extremes()).look(weights, number, batch)
        return True


def _order(rows: Batch, denominators: Sequence[Denominator]) -> list[int]:
    """A random order, in which samples without any valid target, which have no loss to compare, are the last."""
    order = torch.randperm(leading_size(rows), generator=torch.Generator().manual_seed(0), device="cpu")
    for denominator in denominators:
        if isinstance(denominator, Targets) and denominator.ignored:
            order = order[(denominator.rows(rows).cpu() == 0)[order].int().argsort(stable=True)]
    return order.tolist()


def _pieces(rows: Batch, largest: int) -> list[Batch]:
    known = leading_size(rows)
    size = min(known, max(largest, 2 * PIECES))
    if size < 2 * PIECES:
        return []
    kept = torch.linspace(0, known - 1, size, device="cpu").round().long()
    return [rows_of(rows, part) for part in kept.tensor_split(PIECES)]


def _shape(batch: Batch, size: int) -> tuple[object, ...]:
    """What has to be the same of two samples that stand together in a batch."""
    leaves = pytree.tree_leaves(batch)
    return tuple(
        (leaf.shape[1:] if leaf.ndim > 0 and len(leaf) == size else leaf.shape) if isinstance(leaf, Tensor) else None
        for leaf in leaves
    )
