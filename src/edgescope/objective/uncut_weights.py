"""What the losses of batches that cannot be split are means over, from the averaging operations in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgescope.objective.batches import Batch, Batches, Count
from edgescope.objective.denominators import (
    ClassificationMeans,
    Denominator,
    Rows,
    SampleCount,
    denominators,
    leaf_names,
)
from edgescope.objective.watching import Watching

BATCHES = 32
"""On how many batches, from all over the data, it is looked at."""

_MEANS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "soft_margin_loss")
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError)


class MeanSizes(Watching):
    """Sees by what every mean that is a single number was divided: its entries, or the divisor of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self._means: list[tuple[float, float]] = []
        self._sums: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        value = result[0] if isinstance(result, tuple | list) and result else result
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            return result
        if name == "sum":
            self._sums.append(value)
        elif name == "mean" or (name.startswith(_MEANS) and "backward" not in name and _reduction(func, args, kwargs)):
            self._means.append((float(value), float(args[0].numel())))
        elif name.startswith("nll_loss") and "forward" in name and args[3] == 1:
            self._means.append((float(value), float(result[1])))
        elif name == "div" and any(args[0] is found for found in self._sums):
            self._means.append((float(value), float(args[1])))
        return result

    def mean(self, loss: float) -> tuple[float, float]:
        """The mean that the loss is, or the only one in it, and by what it was divided; NaN where there are several."""
        equal = [mean for mean in self._means if math.isclose(mean[0], loss, rel_tol=1e-6)]
        if equal:
            return equal[-1]
        return self._means[0] if len(self._means) == 1 else (math.nan, math.nan)


@dataclass(frozen=True)
class SeenSizes:
    """Batches, and what their losses were divided by."""

    batches: Sequence[Batch]
    sizes: Sequence[float]

    def explained_by(self, count: Count) -> bool:
        """Whether these weights are in the same proportions."""
        try:
            weights = [float(count(batch)) for batch in self.batches]
        except _FAILURES:
            return False
        return proportional(weights, self.sizes)


def proportional(weights: Sequence[float], sizes: Sequence[float]) -> bool:
    """Whether two lists of weights, which are not negative and not all zero, are multiples of each other."""
    first, second = sum(weights), sum(sizes)
    if not (first > 0 and second > 0 and min(weights) >= 0):
        return False
    pairs = zip(weights, sizes, strict=True)
    return all(math.isclose(a / first, b / second, rel_tol=1e-5, abs_tol=1e-12) for a, b in pairs)


def seen_sizes(loss: Callable[[Batch], Tensor], batches: Batches) -> SeenSizes | None:
    """What the losses of some batches were divided by; None where one did not show. Cost: the losses of 32 batches."""
    chosen = set(
        torch.linspace(0, batches.number - 1, min(BATCHES, batches.number), device="cpu").round().long().tolist()
    )
    looked: list[Batch] = []
    losses: list[float] = []
    means: list[tuple[float, float]] = []
    for number, batch in enumerate(batches):
        if number not in chosen:
            continue
        with MeanSizes() as seen:
            value = float(loss(batch))
        looked.append(batch)
        losses.append(value)
        means.append(seen.mean(value) if math.isfinite(value) else (value, 0.0))  # a batch without a valid target
    finite = [number for number, value in enumerate(losses) if math.isfinite(value)]
    known = finite and _alike([means[i][0] for i in finite], [losses[i] for i in finite])
    return SeenSizes(looked, [size for _, size in means]) if known else None


def _alike(means: Sequence[float], losses: Sequence[float]) -> bool:
    """Whether losses are means but for one factor or one term that does not depend on the batch (a penalty)."""
    scale = 1e-5 * max(map(abs, [*means, *losses]))
    terms = [loss - mean for loss, mean in zip(losses, means, strict=True)]
    if not all(map(math.isfinite, terms)):
        return False
    factor = sum(losses) / sum(means) if sum(means) else 1.0
    multiples = all(abs(loss - factor * mean) <= scale for loss, mean in zip(losses, means, strict=True))
    return multiples or max(terms) - min(terms) <= scale


def explaining(found: SeenSizes, batches: Batches, seen: ClassificationMeans) -> Denominator | None:
    """The weight of a batch that is in proportion to what was seen; None where there is none, or several that differ.

    Cost: a pass over the data without the model, where there are more batches than were seen.
    """
    heaviest = batches.heaviest
    rows = [Rows(name) for name in leaf_names(heaviest)[1:]]
    candidates = [SampleCount(), *rows, *denominators(heaviest, seen, every=True)]
    fitting: list[Denominator] = [d for d in candidates if found.explained_by(d)]
    if fitting and batches.number > len(found.batches):
        every: list[list[float]] = [[] for _ in fitting]
        try:
            for batch in batches:
                for weights, denominator in zip(every, fitting, strict=True):
                    weights.append(denominator(batch))
        except _FAILURES:
            return None
        if not all(proportional(weights, every[0]) for weights in every):
            return None
    return fitting[0] if fitting else None


def _reduction(func: Any, args: Sequence[Any], kwargs: Any) -> bool:
    """Whether an operation with a ``reduction`` takes the mean."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "reduction":
            given = args[place] if place < len(args) else kwargs.get("reduction", argument.default_value)
            return bool(given == 1)
    return False
