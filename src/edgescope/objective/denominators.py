"""What the loss of a batch may be a mean over: its samples, the targets that are not ignored, class weights, a mask."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.objective.batches import Batch, leading_size, piece_of
from edgescope.objective.watching import Watching


class ClassificationMeans(Watching):
    """Sees what PyTorch's classification losses leave out of their mean, and the weights of their classes.

    ``found`` are the class weights (None where all weigh the same) with the label that is ignored, ``totals`` what
    each mean of ``batch`` was divided by, ``means`` their values, and ``loss`` that of the whole loss.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch
        self.found: list[tuple[Tensor | None, int]] = []
        self.totals: list[float] = []
        self.means: list[float] = []
        self.loss = math.nan

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("nll_loss_forward", "nll_loss2d_forward"):
            _, _, weight, reduction, ignored = args[:5]
            if reduction == 1:  # the mean
                self.found.append((None if weight is None else weight.detach().clone(), int(ignored)))
                self.means.append(float(result[0]))
                self.totals.append(float(result[1]))
        return result

    @property
    def total(self) -> float:
        """What the loss was divided by, where it is one of these means and nothing else; else NaN."""
        pairs = zip(self.means, self.totals, strict=True)
        found = [total for mean, total in pairs if math.isclose(mean, self.loss, rel_tol=1e-6)]
        return found[-1] if found else math.nan


class Denominator(ABC):
    """A weight of every sample, whose sum over a batch is what the loss of the batch may be divided by."""

    words: str

    @abstractmethod
    def rows(self, batch: Batch) -> Shaped[Tensor, " n"]:
        """The weight of each sample of a batch; raises where the batch has no such weights."""

    def __call__(self, batch: Batch) -> float:
        return float(self.rows(batch).double().sum())


@dataclass(frozen=True, eq=False)
class SampleCount(Denominator):
    """The number of samples."""

    words = "number of samples"

    def rows(self, batch: Batch) -> Float[Tensor, " n"]:
        return torch.ones(leading_size(batch), device="cpu")


@dataclass(frozen=True, eq=False)
class Rows(Denominator):
    """The rows of one tensor of a batch whose tensors have different numbers of them."""

    name: str

    @property
    def words(self) -> str:  # type: ignore[override]
        return f"number of rows (batch{self.name})"

    def rows(self, batch: Batch) -> Float[Tensor, " n"]:
        return torch.ones(len(_leaf(batch, self.name, 0)), device="cpu")


@dataclass(frozen=True, eq=False)
class Targets(Denominator):
    """The class weights of all targets that are not ignored; their number where classes weigh the same.

    ``name`` is where the targets stand in a batch, ``shift`` how many targets of each sample have no prediction.
    """

    name: str
    shift: int
    weight: Tensor | None
    ignored: int

    @property
    def words(self) -> str:  # type: ignore[override]
        what = f"number of targets other than {self.ignored}" if self.weight is None else "sum of class weights"
        return f"{what} (batch{self.name}{_without_first(self.shift)})"

    def rows(self, batch: Batch) -> Shaped[Tensor, " n"]:
        targets = _leaf(batch, self.name, self.shift)
        valid = targets != self.ignored
        if self.weight is None:
            return valid.sum(1)
        classes = torch.where(valid, targets, 0).long()
        low, high = torch.aminmax(classes)
        if low < 0 or high >= len(self.weight):  # on a GPU an index out of range is no error that could be caught
            raise IndexError("these are not classes")
        return torch.where(valid, self.weight.to(targets.device)[classes], 0.0).sum(1)


@dataclass(frozen=True, eq=False)
class Total(Denominator):
    """The sum of a mask, of lengths or of the weights of samples."""

    name: str
    shift: int

    @property
    def words(self) -> str:  # type: ignore[override]
        return f"sum of batch{self.name}{_without_first(self.shift)}"

    def rows(self, batch: Batch) -> Float[Tensor, " n"]:
        return _leaf(batch, self.name, self.shift).sum(1, dtype=torch.float64)


def leaf_names(batch: Batch) -> list[str]:
    """Where the tensors that have a first dimension stand in a batch."""
    leaves = pytree.tree_flatten_with_path(batch)[0]
    return [pytree.keystr(path) for path, leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 0]


def denominators(batch: Batch, seen: ClassificationMeans, *, every: bool = False) -> list[Denominator]:
    """What losses of batches like this one may be divided by, the likely ones first.

    Labels under the weights and with the ignored label that were seen; then masks, whose entries are 0 or 1; labels
    with the usual ignored ones, -100 and 0; sums of anything else. ``every``: also of tensors that have another number
    of rows than the batch has samples.
    """
    size = leading_size(batch)
    leaves = [
        (pytree.keystr(path), leaf)
        for path, leaf in pytree.tree_flatten_with_path(batch)[0]
        if isinstance(leaf, Tensor) and not leaf.is_complex() and leaf.ndim > 0 and leaf.numel()
        if every or len(leaf) == size
    ]
    some = piece_of([leaf for _, leaf in leaves], 0, 64)
    masks = {name for (name, _), leaf in zip(leaves, some, strict=True) if bool(((leaf == 0) | (leaf == 1)).all())}
    labels = {name for name, leaf in leaves if not leaf.is_floating_point() and leaf.dtype != torch.bool}
    seen_ways = _distinct(seen.found)
    usual: list[tuple[Tensor | None, int]] = [(None, -100), (None, 0)]
    others = [way for way in usual if way not in [seen_way for seen_way in seen_ways if seen_way[0] is None]]
    likely: list[Denominator] = []
    unlikely: list[Denominator] = []
    for shift in (0, 1):  # a language model predicts the next token, so the first has no loss
        for name in (name for name, leaf in leaves if not shift or leaf.ndim > 1):
            if name in labels:
                likely += [Targets(name, shift, *way) for way in seen_ways]
                unlikely += [Targets(name, shift, *way) for way in others]
            (likely if name in masks else unlikely).append(Total(name, shift))
    return likely + unlikely


def _distinct(found: list[tuple[Tensor | None, int]]) -> list[tuple[Tensor | None, int]]:
    """Each way of weighing targets once."""
    keys = [(ignored, None if weight is None else tuple(weight.tolist())) for weight, ignored in found]
    return [way for number, way in enumerate(found) if keys[number] not in keys[:number]]


def _without_first(shift: int) -> str:
    return ", without the first of each sample" if shift else ""


def _leaf(batch: Any, name: str, shift: int) -> Shaped[Tensor, "n k"]:
    found: Tensor = next(leaf for path, leaf in pytree.tree_flatten_with_path(batch)[0] if pytree.keystr(path) == name)
    return (found[:, shift:] if shift else found).reshape(len(found), -1)
