"""Finding on a few samples what the loss of a batch is a mean over, so that batches are averaged as in training."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import EdgescopeError, InputError
from edgescope.objective.batches import Batch, Batches, Count, leading_size
from edgescope.objective.denominators import ClassificationMeans, Denominator, SampleCount, Targets, denominators
from edgescope.objective.survey import PIECES, survey
from edgescope.objective.uncut_weights import SeenSizes

SAMPLES = 8
"""How many samples with a finite loss of their own the question is put to."""

TRIED = 48
"""Among how many samples they are looked for: where most targets are ignored, most samples have no loss."""

_ROUNDING_OF_WEIGHTS = 1e-6  # which are computed in single precision, as the data are

Reduction = Literal["mean", "weighted mean", "mean of unknown weights", "sum", "coupled", "uncut", "unknown"]
Evaluate = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Rounding:
    """By how much losses that should be equal differ: ``relative`` to the largest, or to ``least`` if that is more.

    Losses that differ by less than ``spread``, relative to the same, tell no weights apart.
    """

    relative: float
    least: float
    spread: float

    def scale(self, losses: Sequence[float]) -> float:
        return max(self.least, *map(abs, losses))

    @staticmethod
    def of(dtype: torch.dtype) -> Rounding:
        """That of losses computed in this precision, in part or whole."""
        known = {torch.float64: Rounding(1e-9, 1e-6, 1e-6), torch.float32: Rounding(1e-5, 0.1, 1e-2)}
        return known.get(dtype, Rounding(5e-3, 0.1, 0.1))


@dataclass(frozen=True)
class Losses:
    """The losses of a few batches, and a way to evaluate any of them together.

    ``joined`` are all of them as one. The batches in ``without`` have no loss, such as those without a valid target,
    and must weigh nothing.
    """

    batches: Sequence[Batch]
    joined: Batch
    single: list[float]
    together: Callable[[Sequence[int]], float]
    rounding: Rounding
    without: Sequence[Batch]

    def explained_by(self, count: Count) -> bool:
        """Whether these weights add up, make every loss a mean, and are nothing where there is no loss."""
        try:
            weights = [float(count(batch)) for batch in self.batches]
            nothing = [float(count(batch)) for batch in self.without]
            total = float(count(self.joined))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError):
            return False
        adds_up = math.isclose(total, sum(weights), rel_tol=1e-5)
        return adds_up and min(weights) >= 0 and not any(nothing) and self.is_mean(weights)

    def groups(self) -> list[Sequence[int]]:
        """All batches, the first half, and the second."""
        everything = range(len(self.batches))
        half = len(self.batches) // 2
        return [everything, everything[:half], everything[half:]]

    def alike(self) -> bool:
        """Whether the losses, one by one and together, are too much alike to tell weights apart."""
        every = [*self.single, self.together(range(len(self.batches)))]
        return max(every) - min(every) <= self.rounding.spread * self.rounding.scale(every)

    def is_mean(self, weights: Sequence[float]) -> bool:
        """Whether the loss of every group is the mean of the single losses with these weights."""
        spread = max(self.single) - min(self.single)
        for group in self.groups():
            total = sum(weights[i] for i in group)
            if not total > 0:
                return False
            mean = sum(weights[i] * self.single[i] for i in group) / total
            if abs(mean - self.together(group)) > self._slack() + _ROUNDING_OF_WEIGHTS * spread:
                return False
        return True

    def is_sum(self) -> bool:
        """Whether losses add up, but for one term that does not depend on the data (a penalty)."""
        excess = [(sum(self.single[i] for i in g) - self.together(g), len(g) - 1) for g in self.groups()]
        penalty = excess[0][0] / excess[0][1]
        return all(abs(found - times * penalty) <= len(self.single) * self._slack() for found, times in excess)

    def has_weights(self) -> bool:
        """Whether any positive weights explain the losses of three batches, of their pairs, and of all three."""
        order = sorted(range(len(self.single)), key=lambda i: self.single[i])
        a, b, c = order[0], order[len(order) // 2], order[-1]
        ab, bc, ac = self._ratio(a, b), self._ratio(b, c), self._ratio(a, c)
        if min(ab[0], bc[0], ac[0]) <= 0:
            return False
        if abs(math.log(ab[0] * bc[0] / ac[0])) > ab[1] + bc[1] + ac[1]:
            return False
        weights = {a: ac[0], b: bc[0], c: 1.0}
        mean = sum(weight * self.single[i] for i, weight in weights.items()) / sum(weights.values())
        return abs(mean - self.together([a, b, c])) <= 10 * self._slack()

    def _ratio(self, i: int, j: int) -> tuple[float, float]:
        """Weight of one batch over that of another, from the loss of the two together, and its relative error.

        Zero where the loss of the two does not lie between their own.
        """
        both, slack = self.together([i, j]), self._slack()
        above, below = both - self.single[j], self.single[i] - both
        if above * below <= 0 or min(abs(above), abs(below)) <= 10 * slack:
            return 0.0, 0.0
        return above / below, slack / abs(above) + slack / abs(below)

    def _slack(self) -> float:
        return self.rounding.relative * self.rounding.scale([*self.single, self.together(range(len(self.batches)))])


@dataclass(frozen=True)
class Weighing:
    """How the losses of batches make the loss of all data.

    ``reduction`` is "mean" where a batch's loss is the mean over what batches are weighted by now, "weighted mean"
    where ``count`` is the weight that makes it one (``words`` say what it counts), "mean of unknown weights" where
    there is such a weight and it was not found, "sum" where losses add up, "coupled" where no weights of the samples
    give the loss of a batch (contrastive losses), "uncut" where batches are only taken whole and what their losses are
    means over did not show, and "unknown" where samples could not be evaluated. ``shapes``:
    whether it was found on samples of one shape while there are others, which might weigh more or less. ``tests`` are
    the losses that it was found on, or ``sizes`` what those of uncut batches were divided by.
    """

    reduction: Reduction
    count: Count | None = None
    words: str = ""
    shapes: bool = False
    tests: Sequence[Losses] = ()
    sizes: SeenSizes | None = None

    def explained_by(self, count: Count) -> bool:
        """Whether these weights explain all losses that were looked at."""
        seen = self.sizes is None or self.sizes.explained_by(count)
        return seen and all(losses.explained_by(count) for losses in self.tests)


def weighing(
    evaluate: Evaluate,
    elsewhere: Evaluate,
    batches: Batches,
    seen: ClassificationMeans,
    roundings: Sequence[Rounding],
    *,
    alone: bool,
) -> Weighing:
    """How ``evaluate(batch)``, the loss of a batch, depends on the losses of its samples.

    Losses of single samples tell weights apart that differ between a few samples alone; those of pieces from all over
    the data show whether that holds everywhere, and also for models that cannot take a single sample. ``elsewhere`` is
    the loss at other parameters, which is looked at where all losses are alike (a last layer of zeros, a saturated
    network). ``seen`` are the classification losses of one batch. ``roundings`` are tried in turn where no weights
    explain the losses: that of the precision in which they are computed, and of the lowest inside. ``alone``: there
    are no other processes, whose samples may weigh more. Cost: a pass over the data without the model, and the losses
    of some 30 samples in small groups and of some 300 in larger ones.

    Raises :class:`InputError` where all targets are ignored.
    """
    known = denominators(batches.heaviest, seen)
    samples = survey(batches, known)
    found = Weighing("unknown")
    for rounding in roundings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a model says of a single sample is no concern of the user's
            tests = [
                losses
                for units, most in ((samples.singles(), SAMPLES), (samples.pieces, PIECES))
                if (losses := _losses(evaluate, elsewhere, units, rounding, most)) is not None
            ]
            try:
                found = _judged(Weighing("unknown", tests=tests), batches, known, seen, samples.shapes > 1, alone)
            except EdgescopeError:  # a model that can take batches of some sizes alone
                continue
        if found.reduction in ("mean", "weighted mean", "sum"):
            return found  # what agrees to so many digits does not agree by chance
    ignored = [d.ignored for d in samples.weightless if isinstance(d, Targets)]
    if not found.tests and any(label in ignored for _, label in seen.found):
        raise InputError(f"no batch has a valid target (all are {ignored[0]})", expected="at least one")
    return found


def _judged(
    found: Weighing, batches: Batches, known: list[Denominator], seen: ClassificationMeans, shapes: bool, alone: bool
) -> Weighing:
    if not found.tests:
        return found
    if batches.counted and found.explained_by(batches.count):
        return replace(found, reduction="mean")
    candidates = (d for d in (SampleCount(), *known) if found.explained_by(d))
    unseen = shapes or not alone  # there are samples that these do not stand for, and that may weigh more
    explaining = list(candidates if unseen else itertools.islice(candidates, 1))
    if not explaining and min(len(losses.single) for losses in found.tests) < 3:
        return found
    if not explaining:
        if all(losses.is_sum() for losses in found.tests):
            return replace(found, reduction="sum")
        weighted = all(losses.has_weights() for losses in found.tests)
        return replace(found, reduction="mean of unknown weights" if weighted else "coupled")
    chosen = explaining[0]
    if unseen:
        total = seen.totals[0] if len(seen.totals) == 1 and not shapes else seen.total
        divided = [d for d in explaining if math.isclose(d(seen.batch), total, rel_tol=1e-5)]
        found, chosen = replace(found, shapes=shapes and not divided), (divided or explaining)[0]
    if isinstance(chosen, SampleCount) and not batches.counted:
        return replace(found, reduction="mean")
    return replace(found, reduction="weighted mean", count=chosen, words=chosen.words)


def _losses(
    evaluate: Evaluate, elsewhere: Evaluate, units: Iterable[Batch], rounding: Rounding, most: int
) -> Losses | None:
    """The losses of at most so many of these batches, here or elsewhere; None where they tell nothing."""
    units = itertools.islice(units, TRIED)
    for place in (evaluate, elsewhere):
        units, again = itertools.tee(units)
        try:
            losses = _evaluated(place, again, rounding, most)
            if losses is None or not losses.alike():
                return losses
        except EdgescopeError:  # samples that cannot stand together
            return None
    return None


def _evaluated(evaluate: Evaluate, units: Iterable[Batch], rounding: Rounding, most: int) -> Losses | None:
    """The losses of at least two batches, and of at most so many, that have a finite one; None where there are less.

    A batch without a loss of its own (no valid target) is kept, because it must weigh nothing.
    """
    chosen: list[Batch] = []
    single: list[float] = []
    without: list[Batch] = []
    for unit in units:
        try:
            loss = float(evaluate(unit))
        except EdgescopeError:  # a model that cannot take a single sample, a label out of range
            continue
        if math.isfinite(loss):
            chosen.append(unit)
            single.append(loss)
        else:
            without[:] = [unit]
        if len(chosen) == most:
            break
    if len(chosen) < 2:
        return None
    known: dict[tuple[int, ...], float] = {}

    def together(group: Sequence[int]) -> float:
        key = tuple(group)
        if key not in known:
            known[key] = float(evaluate(_all_of([chosen[i] for i in group])))
        return known[key]

    return Losses(chosen, _all_of(chosen), single, together, rounding, without)


def _all_of(batches: Sequence[Batch]) -> Batch:
    """Batches of samples of one shape as one batch."""
    sizes = [leading_size(batch) for batch in batches]

    def join(*leaves: Any) -> Any:
        runs = all(isinstance(t, Tensor) and t.ndim and len(t) == n for t, n in zip(leaves, sizes, strict=True))
        return torch.cat(leaves) if runs else leaves[0]

    return pytree.tree_map(join, *batches)
