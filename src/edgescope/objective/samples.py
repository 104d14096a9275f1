"""Losses and gradients of single samples, where the loss of an objective is a mean over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.errors import InputError, NotKnownError
from edgescope.objective.batches import Batch, leading_size, piece_of, rows_of
from edgescope.objective.layout import Tensors
from edgescope.objective.objective import Objective
from edgescope.objective.problem import Point, TrainingProblem

TOGETHER = 2**23  # bytes of gradients that are worked out side by side: 2^27 took three times as long, 2^20 four

OfOne = Callable[..., Tensor | list[Tensor]]


def sample_losses(objective: Objective, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, " n"]:
    """The loss of each sample at ``w`` (the model's own parameters by default), float64, without the l2 term.

    Cost: one loss. Raises :class:`NotKnownError` where the loss is not a mean over samples (batch statistics, samples
    of unequal weight), and for data that are sharded over processes.
    """
    problem, point = separable(objective), objective._at(w)
    found: list[Tensor] = []
    with objective._curvature.ready(point, derivatives=False), torch.no_grad():
        for chunk in problem.chunks():
            losses = of_each(problem, point, chunk.batch, lambda one: one).double()
            if not found:
                refuse_other_mean(losses, problem.loss_of(point.tensors, point.constants, chunk.batch))
            found.append(losses)
    objective.meter.count(losses=1)
    return torch.cat(found)


def sample_gradients(objective: Objective, count: int | None = None, seed: int = 0) -> Iterator[Float[Tensor, "b P"]]:
    """The gradients of single samples at the model's own parameters, in blocks of rows, without the l2 term.

    ``count`` samples drawn without replacement from ``seed`` (None: all, in order). At most 8 MiB of gradients, or one,
    are held at a time. Cost: one gradient for all samples, but for fully connected networks some 30 to 50 times
    the seconds of one (all n P numbers are written), for a convolutional one as many. Raises as :func:`sample_losses`.
    """
    problem, point = separable(objective), objective._at(None)
    rows = problem.batches.rows
    chosen = None
    if count is not None and count < rows:
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(seed), device="cpu")[:count].sort().values
    each = max(1, TOGETHER // (point.flat.element_size() * objective.size))
    start, checked = 0, False
    for chunk in problem.chunks():
        batch, size = chunk.batch, leading_size(chunk.batch)
        if chosen is not None:
            batch = rows_of(batch, chosen[(chosen >= start) & (chosen < start + size)] - start)
        start += size
        for piece in problem.batches.pieces(batch, each) if leading_size(batch) else []:
            with objective._curvature.ready(point):
                if not checked:
                    with torch.no_grad():
                        losses = of_each(problem, point, piece, lambda one: one).double()
                        refuse_other_mean(losses, problem.loss_of(point.tensors, point.constants, piece))
                    checked = True
                found = of_each(problem, point, piece, torch.func.grad)
            yield problem.layout.join(found, (leading_size(piece),))
    objective.meter.count(gradients=1)


def first_sample(objective: Objective) -> Batch:
    """The first sample of the data, as a batch of one."""
    return piece_of(next(iter(objective._problem.batches)), 0, 1)


def separable(objective: Objective) -> TrainingProblem:
    if objective.couples_samples:
        raise NotKnownError("with batch statistics a sample has no loss of its own", hint="mode='eval'")
    if objective.group is not None:
        raise NotKnownError(
            "losses of single samples, with data sharded over processes", hint="an objective of one process"
        )
    if objective._problem.batches.uncut:
        raise NotKnownError(
            "losses of single samples, with batches that cannot be split (graphs, sequences first)",
            expected="tensors with equal numbers of rows, and a model that accepts a part of them",
        )
    return objective._problem


def of_each(  # type: ignore[no-untyped-def]
    problem: TrainingProblem,
    point: Point,
    batch: Batch,
    derive: Callable[[OfOne], OfOne],
    function: Callable[[Tensors, Batch], Tensor] | None = None,
):
    """What ``derive`` makes of a function of one sample, for every sample of a batch: mapped, or else one by one.

    ``function(tensors, batch of one)`` is the loss unless it is given.
    """
    leaves, form = pytree.tree_flatten(batch)
    size = leading_size(batch)
    runs = [isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size for leaf in leaves]
    tensors = [tensor.detach() for tensor in point.tensors]

    def of_one(tensors: Tensors, *members: Tensor) -> Tensor:
        rest = iter(members)
        whole = [next(rest)[None] if run else leaf for leaf, run in zip(leaves, runs, strict=True)]
        one = pytree.tree_unflatten(whole, form)
        return problem.loss_of(tensors, point.constants, one) if function is None else function(tensors, one)

    members = [leaf for leaf, run in zip(leaves, runs, strict=True) if run]
    work = derive(of_one)
    try:
        return torch.func.vmap(work, in_dims=(None, *[0] * len(members)))(tensors, *members)
    except RuntimeError:  # an operation without a rule for mapping, or control flow that depends on values
        found = [work(tensors, *(member[i] for member in members)) for i in range(size)]
        return pytree.tree_map(lambda *ones: torch.stack(ones), *found)


def refuse_other_mean(losses: Float[Tensor, " b"], mean: Float[Tensor, ""]) -> None:
    if not bool(torch.isfinite(losses).all()):
        raise InputError("the loss of a sample is not finite", hint="a smaller learning rate")
    slack = 1e-9 if mean.dtype == torch.float64 else 1e-4
    floor = torch.finfo(mean.dtype).eps  # at interpolation losses are rounding, which no two ways share
    if abs(float(losses.mean() - mean.double())) > slack * max(float(losses.abs().mean()), floor):
        raise NotKnownError(
            f"the loss is not a mean over samples ({float(mean):.6g} together, {float(losses.mean()):.6g} one by one)",
            expected="a loss that weighs all samples equally",
        )
