"""Whether an objective, which puts parameters into the model from outside, is the loss of the model as it trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgescope.errors import InputError
from edgescope.objective.batches import Batch
from edgescope.objective.checks import evaluated
from edgescope.objective.problem import A_LOSS, Point, TrainingProblem
from edgescope.objective.watching import Watching
from edgescope.shards import is_sharded, local

_SLACK: Final = {torch.float64: 1e-8, torch.float32: 1e-4}


class LiveReads(Watching):
    """Sees which of the model's live parameters are read while others are put in their place, also detached ones.

    ``places`` are their numbers in the layout. With ``moved`` every read gives other values than those of the model.
    """

    def __init__(self, problem: TrainingProblem, moved: bool = False) -> None:
        super().__init__()
        self.places: set[int] = set()
        self._moved = moved
        held = [local(tensor) for tensor in problem.tensors()]
        self._storages = {t.untyped_storage().data_ptr(): place for place, t in enumerate(held) if t.numel()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and self._reads(leaf)]
        if read and self._moved:
            args, kwargs = pytree.tree_map_only(Tensor, self._other, (args, kwargs))
        return func(*args, **kwargs)

    def _reads(self, tensor: Tensor) -> bool:
        try:
            place = self._storages.get(tensor.untyped_storage().data_ptr())
        except (RuntimeError, NotImplementedError):  # a tensor without memory of its own
            return False
        if place is not None:
            self.places.add(place)
        return place is not None

    def _other(self, tensor: Tensor) -> Tensor:
        return 2 * tensor + 1 if self._reads(tensor) and tensor.is_floating_point() else tensor


def refuse_live_parameters(
    problem: TrainingProblem, point: Point, loss: Tensor, reads: LiveReads, batch: Batch
) -> None:
    """Refuse a ``loss`` that depends, however weakly, on live parameters and not on those that were put in.

    It does where its graph leads to them, also by way of something that was computed from them before; and where it
    reads them, also detached, and has another value if they had others. Cost: two losses on ``batch``, where any was
    read.
    """
    leaves = _leaves(loss)
    reached = [slot.name for slot, t in zip(problem.layout, problem.tensors(), strict=True) if id(t) in leaves]
    if reached:
        raise _reached_otherwise(reached)
    if not reads.places:
        return

    def value() -> float:
        return float(evaluated(lambda: problem.loss_of(point.tensors, point.constants, batch)))

    with torch.no_grad():
        here = value()
        with LiveReads(problem, moved=True):
            there = value()
    if not math.isclose(here, there, rel_tol=1e-6):
        raise _reached_otherwise([problem.layout[place].name for place in sorted(reads.places)])


def refuse_other_function(problem: TrainingProblem, point: Point, batch: Batch) -> None:
    """Refuse an objective whose loss or gradient on ``batch`` is not that of the live model under autograd.

    Both are computed in the model's own precision, inside :func:`measuring`. They differ where a module or the loss
    function keeps parameters, or what was computed from them, outside those that the module has registered (in a list,
    a closure, a cache), or where hooks change what they do from call to call. Cost: two gradients of the batch.
    """
    names = [slot.name for slot in problem.layout]
    live = problem.tensors()
    kinds = {t.dtype for t in live}
    if len(kinds) > 1 or any(t.device != problem.device or is_sharded(t) for t in live):
        return  # the measurement converts what the live model cannot take as it is, and gathers shards
    dtype = kinds.pop()

    def convert(leaf: object) -> object:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    batch = pytree.tree_map(convert, batch)
    constants = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in point.constants.items()
    }
    # The live values themselves: those of the point may have been rounded to a coarser precision.
    put_in = [tensor.detach().clone().requires_grad_() for tensor in live]
    with _buffers_copied(problem.model), _without_hooks(live):
        try:
            loss = problem.loss_fn(problem.model, batch)
        except Exception:  # a live model in another precision than it was measured in; the loss itself was checked
            return
        through_live = torch.autograd.grad(loss, live, allow_unused=True)
        here = evaluated(lambda: problem.loss_of(put_in, constants, batch))
        problem.count_preparation(2 - A_LOSS, batch)  # all of both gradients but the loss that was counted
        through_put_in = torch.autograd.grad(here, put_in, allow_unused=True)
    # Buffers and frozen parameters are compared as the point has them, in its precision.
    slack = max(_SLACK.get(kind, 0.1) for kind in (dtype, problem.dtype))
    wrong = _different(names, through_live, through_put_in, slack)
    if wrong:
        raise _reached_otherwise(wrong)
    first, second = float(loss.detach()), float(here.detach())
    if abs(first - second) > slack * max(abs(first), abs(second)) + 1e-12 and math.isfinite(first):
        raise InputError(
            f"the loss of the model is {first:.6g}, but {second:.6g} when its parameters are passed from outside",
            expected="a model that keeps no detached copies of its parameters, and no memory between calls",
            hint="removing hooks or caches that change from call to call",
        )


def _reached_otherwise(names: list[str]) -> InputError:
    some = ", ".join(f"'{name}'" for name in names[:3]) + (" and more" if len(names) > 3 else "")
    return InputError(
        f"the loss depends on {some} by another way than through the module that has them registered (a list, a"
        " closure, a cache, a copy), so that it is no function of parameters put in there",
        expected="a loss computed from loss_fn's own argument `model` and the parameters of its modules",
        hint="model.parameters() or the module itself at the place where they are used",
    )


def _leaves(loss: Tensor) -> set[int]:
    """The leaves that a loss has a gradient for, by the identity of the tensors."""
    found: set[int] = set()
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _different(
    names: list[str], live: tuple[Tensor | None, ...], put_in: tuple[Tensor | None, ...], slack: float
) -> list[str]:
    def dense(gradient: Tensor | None) -> Tensor:
        if gradient is None:
            return torch.zeros(1, device="cpu")
        return (gradient.to_dense() if gradient.is_sparse else gradient).detach()

    firsts, seconds = [dense(g) for g in live], [dense(g) for g in put_in]
    size = max(float(first.abs().max()) for first in (*firsts, *seconds))
    if not math.isfinite(size):
        return []
    pairs = zip(names, firsts, seconds, strict=True)
    return [name for name, first, second in pairs if float((first - second).abs().max()) > slack * size]


@contextmanager
def _without_hooks(tensors: list[Tensor]) -> Iterator[None]:
    """Gradients as the loss has them: what hooks make of them is seen in the steps that the optimizer takes."""
    kept = [(tensor, tensor._backward_hooks) for tensor in tensors if tensor._backward_hooks]
    for tensor, _ in kept:
        tensor._backward_hooks = None
    try:
        yield
    finally:
        for tensor, hooks in kept:
            tensor._backward_hooks = hooks


@contextmanager
def _buffers_copied(model: nn.Module) -> Iterator[None]:
    """Buffers that a forward pass may write to; :func:`measuring` puts the model's own back."""
    for part in model.modules():
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = buffer.clone()
    yield
