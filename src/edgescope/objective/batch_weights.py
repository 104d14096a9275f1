"""How the losses of batches are averaged: what each is a mean over, or why it is not a mean."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from edgescope.errors import InputError
from edgescope.notices import Notices
from edgescope.objective.batches import Batch
from edgescope.objective.checks import evaluated
from edgescope.objective.denominators import ClassificationMeans, SampleCount
from edgescope.objective.modes import Flags
from edgescope.objective.modules import measuring
from edgescope.objective.problem import Point, TrainingProblem
from edgescope.objective.uncut_weights import explaining, seen_sizes
from edgescope.objective.watching import Watching
from edgescope.objective.weights import SAMPLES, Evaluate, Rounding, Weighing, weighing


def find_weights(
    problem: TrainingProblem, point: Point, flags: Flags, seen: ClassificationMeans, group: object
) -> Weighing:
    """What the loss of a batch is a mean over; the model in evaluation where batch normalisation couples samples.

    In float64 where model and loss take it, whatever the precision of the measurement, so that rounding is not taken
    for a coupling of samples. Cost: as :func:`weighing`.
    """
    if problem.batches.uncut:
        several = problem.batches.number > 1 or group is not None
        return _of_uncut_batches(problem, point, flags, seen) if several else Weighing("uncut")
    flags = Flags(problem.model, "eval") if flags.couples_samples(problem.model) else flags
    with measuring(problem.model, flags, problem.device), torch.no_grad():
        for dtype in dict.fromkeys((torch.float64, problem.dtype)):
            _add_running_statistics(problem.model, dtype)
            here = _loss_at(problem, point, lambda: point.tensors, dtype)
            elsewhere = _loss_at(problem, point, lambda: _near(point), dtype)
            with _Precision(dtype) as precision:
                try:
                    here(problem.batches.some(SAMPLES))
                except Exception:  # a class weight in single precision, a device without double
                    if dtype != problem.dtype:
                        continue
            roundings = [Rounding.of(kind) for kind in dict.fromkeys((dtype, precision.narrowest))]
            return weighing(here, elsewhere, problem.batches, seen, roundings, alone=group is None)
    raise AssertionError("the problem's own precision is the last that is tried")


def _of_uncut_batches(problem: TrainingProblem, point: Point, flags: Flags, seen: ClassificationMeans) -> Weighing:
    """What the losses of batches that cannot be split are means over. Cost: the losses of 32 batches."""
    batches = problem.batches

    def loss(batch: Batch) -> Tensor:
        return evaluated(lambda: problem.loss_of(point.tensors, point.constants, batch))

    with measuring(problem.model, flags, problem.device), torch.no_grad():
        sizes = seen_sizes(loss, batches)
    if sizes is None:
        return Weighing("uncut")
    if batches.counted and sizes.explained_by(batches.count):
        return Weighing("mean", sizes=sizes)
    chosen = explaining(sizes, batches, seen)
    if chosen is None:
        return Weighing("uncut", sizes=sizes)
    if isinstance(chosen, SampleCount) and not batches.counted:
        return Weighing("mean", sizes=sizes)
    return Weighing("weighted mean", chosen, chosen.words, sizes=sizes)


def agreed(found: Weighing, group: distributed.ProcessGroup) -> Weighing:
    """The weights on which all processes of the group agree, since what they weigh must be comparable.

    A process that has seen batches of equal weight alone takes those of the others.
    """
    size = distributed.get_world_size(group)
    every: list[Any] = [None] * size
    distributed.all_gather_object(every, found.count, group=group)
    counts = [count for count in every if count is not None]
    if not counts:
        return found
    explained: list[Any] = [None] * size
    mine = [found.explained_by(count) for count in counts]
    distributed.all_gather_object(explained, mine, group=group)
    for number, count in enumerate(counts):
        if all(of_one[number] for of_one in explained):
            return replace(found, reduction="weighted mean", count=count, words=count.words)
    raise InputError(
        "the losses of the processes are means over different quantities",
        expected="count=, a function that gives the weight of a batch",
    )


def settle_weights(problem: TrainingProblem, found: Weighing, notices: Notices, group: object) -> None:
    """Weigh batches by what was found.

    Raises :class:`InputError` where batches cannot be averaged: losses that are sums, or means over something that was
    not found and that ``count=`` must give. Samples that are coupled are named, and so is what was not tested.
    """
    batches = problem.batches
    several = batches.number > 1 or group is not None
    if found.reduction == "weighted mean" and found.count is not None:
        if batches.counted:
            raise InputError(
                "count= does not weigh batches as the loss does",
                expected=f"the {found.words}",
                hint="leaving out count=; the weights are then found automatically",
            )
        batches.weigh(found.count)
        notices.give("weights", f"batches are weighted by their {found.words}", faq="batch-weights", warn=False)
    elif found.reduction == "sum" and not several:
        notices.give(
            "weights",
            "the loss is a sum over the samples of the batch, not a mean: its curvature grows with their number, and"
            " compares with a learning rate only where training descends the same sum",
            faq="summed-losses",
            hint="reduction='mean'",
        )
    elif several:
        _judge(found, batches.counted, notices)
    if several and found.shapes and not batches.counted:
        notices.give(
            "weights",
            "batches hold samples of different shapes, and are weighted by their numbers of samples: whether longer"
            " samples weigh more in the loss was not found",
            faq="batch-weights",
            hint="count=",
            cause="shapes",
        )


def _judge(found: Weighing, counted: bool, notices: Notices) -> None:
    if found.reduction == "sum" and not counted:
        raise InputError(
            "the loss of a batch is a sum over its samples, not a mean",
            expected="the mean loss of a batch, so that batches can be averaged",
            hint="reduction='mean', or dividing by the number of samples",
        )
    if found.reduction == "mean of unknown weights" and not counted:
        raise InputError(
            "the loss of a batch is not the mean over its samples, but a weighted mean with unknown weights",
            expected="count=, a function that gives the weight of a batch",
            hint="count=lambda batch: what the loss of the batch is divided by",
        )
    if found.reduction == "mean" or (found.reduction == "uncut" and counted):
        return
    if found.reduction == "uncut":
        notices.give(
            "weights",
            "batches cannot be split (tensors with different numbers of rows, or a model that cannot take a"
            " part of a batch), and what their losses are means over was not found: they are weighted by the size of"
            " the first dimension of their first tensor",
            faq="batch-weights",
            hint="count=",
        )
        return
    why = {
        "coupled": "the loss depends on which samples stand together in a batch (it is no mean over samples)",
        "unknown": "whether the loss of a batch is a mean over its samples could not be tested",
    }.get(found.reduction, "the loss of a batch is not the mean that count= says")
    weighed = "as count= says" if counted else "by their numbers of samples"
    text = f"{why}; measured is the mean over the batches as they are given, weighted {weighed}"
    notices.give("weights", text, faq="coupled-samples" if found.reduction == "coupled" else "batch-weights")


def _loss_at(
    problem: TrainingProblem, point: Point, tensors: Callable[[], list[Tensor]], dtype: torch.dtype
) -> Evaluate:
    """The loss of a batch at these parameters, which are made when it is first asked for."""

    def convert(leaf: Any) -> Any:
        return leaf.detach().to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    @functools.cache
    def put_in() -> tuple[list[Tensor], dict[str, Tensor]]:
        converted: tuple[list[Tensor], dict[str, Tensor]] = pytree.tree_map(convert, (tensors(), point.constants))
        return converted

    def loss(batch: Batch) -> Tensor:
        return evaluated(lambda: problem.loss_of(*put_in(), pytree.tree_map(convert, batch)))

    return loss


def _near(point: Point) -> list[Tensor]:
    """Parameters nearby at which samples have different losses, even where a layer is all zeros."""
    generator = torch.Generator().manual_seed(0)
    moved = []
    for tensor in point.tensors:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu").to(tensor)
        size = tensor.detach().square().mean().sqrt() if tensor.numel() else tensor.detach()
        moved.append(tensor.detach() + (0.5 * size + 0.1) * noise)
    return moved


class _Precision(Watching):
    """Sees in which precision a loss is computed in the end: layers may cast down inside, whatever they are given."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.narrowest = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            widths = [leaf.dtype.itemsize for leaf in args if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if result.dtype.itemsize < min(self.narrowest.itemsize, max(widths, default=0)):
                self.narrowest = result.dtype
        return result


def _add_running_statistics(model: nn.Module, dtype: torch.dtype) -> None:
    """Give batch normalisation without running statistics some, so that single samples can be evaluated.

    :func:`measuring`, inside which this is used, takes them away again.
    """
    for part in model.modules():
        if isinstance(part, _BatchNorm) and not part.track_running_stats:
            device = next((p.device for p in part.parameters()), None)
            part._buffers["running_mean"] = torch.zeros(part.num_features, dtype=dtype, device=device)
            part._buffers["running_var"] = torch.ones(part.num_features, dtype=dtype, device=device)
