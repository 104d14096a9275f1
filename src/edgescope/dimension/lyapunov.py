"""Lyapunov exponents along a trajectory: the long-run growth rates of small differences between two runs."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.dimension.kaplan_yorke import crossing
from edgescope.errors import InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.memory import require
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective, in_precision, mini_batches
from edgescope.optim import UpdateJacobian, UpdateRule, rule_for, update_jacobian
from edgescope.optim.unwrap import OptimizerLike
from edgescope.options import LARGEST_RATE, checked, instance_of, integer, optional, real, type_of
from edgescope.short_errors import short_errors

_BLOCKS = 10  # blocks of consecutive steps, whose means give the standard error, including correlations within a block


@runtime_checkable
class LinearMap(Protocol):
    """A square matrix known by its products, such as an :class:`~edgescope.optim.UpdateJacobian`."""

    size: int

    def __matmul__(self, block: Tensor, /) -> Tensor: ...


JacobianLike: TypeAlias = LinearMap | Tensor | np.ndarray
"""What a tracker takes for the Jacobian of a step."""


@in_notebooks
@dataclass(frozen=True)
class LyapunovExponents:
    """The k largest Lyapunov exponents, per step and in descending order, of maps on ``size`` numbers.

    ``error`` (k,) is one standard error of each exponent, per step, from the means of ten consecutive blocks of steps
    (infinite for fewer than two steps in a block). ``growth`` (T, k) are the logarithms of the growth factors at each
    step after the ``warmup``, and ``running`` (T, k) their means up to each step: the exponents have converged where
    these curves are flat. Columns are sorted once, by the final means, so that a column is one direction of the frame.
    ``mode`` is that of the objective.
    """

    exponents: Float[Tensor, " k"]
    error: Float[Tensor, " k"]
    growth: Float[Tensor, "T k"]
    running: Float[Tensor, "T k"]
    size: int
    steps: int
    warmup: int
    products: int
    seconds: float
    mode: str | None = None

    @property
    def dimension(self) -> float | None:
        """The Kaplan-Yorke dimension; None where it needs more than k exponents (their sum is not negative)."""
        complete = len(self.exponents) == self.size or float(self.exponents.sum()) < 0
        return crossing(self.exponents, torch.ones_like(self.exponents)) if complete else None

    @property
    def drift(self) -> float:
        """The largest change of a running mean over the second half of the steps."""
        half = self.running[len(self.running) // 2 :]
        return float((half - half[-1]).abs().max())


@short_errors
class LyapunovTracker:
    """Lyapunov exponents in the caller's own training loop: call ``update`` before each optimizer step.

    An orthonormal frame of ``k`` random vectors (None: as many as the map has dimensions) is multiplied by each
    Jacobian and orthonormalised by a QR decomposition; ln|R_ii| is the growth. Memory: two (size, k) arrays.
    Source: Benettin et al. 1980, Meccanica 15, 9; Eckmann and Ruelle 1985, Rev. Mod. Phys. 57, 617, section V.
    """

    @checked(k=optional(integer(1)), warmup=integer(0))
    def __init__(self, k: int | None = None, *, warmup: int = 0, seed: int = 0) -> None:
        self.k, self.warmup, self.seed = k, warmup, seed
        self.seen = 0
        self.products = 0
        self._frame: Tensor | None = None
        self._growth: list[Tensor] = []
        self._began = time.perf_counter()

    def update(self, jacobian: JacobianLike) -> None:
        """Add the Jacobian of one step: an :class:`UpdateJacobian`, a square matrix, or an object with ``@``."""
        if isinstance(jacobian, Tensor | np.ndarray):
            jacobian = as_tensor("a Jacobian", jacobian, "a square matrix of real numbers").double()
            if jacobian.ndim != 2 or jacobian.shape[0] != jacobian.shape[1] or not jacobian.shape[0]:
                raise InputError(f"a Jacobian of shape {tuple(jacobian.shape)}", expected="a square matrix")
        elif isinstance(jacobian, type) or not hasattr(jacobian, "size") or not hasattr(jacobian, "__matmul__"):
            raise InputError(f"a Jacobian that is {type_of(jacobian)}", expected="an UpdateJacobian or a square matrix")
        size = jacobian.shape[0] if isinstance(jacobian, Tensor) else jacobian.size
        if self._frame is None:
            self._frame = self._start(size)
        if self._frame.shape[0] != size:
            raise InputError(
                f"a Jacobian of size {size} after Jacobians of size {self._frame.shape[0]}", expected="one size"
            )
        moved = (jacobian @ self._frame).double()
        self.products += self._frame.shape[1]
        self.seen += 1
        frame, triangle = torch.linalg.qr(moved)
        lengths, norms = triangle.diagonal().abs(), moved.norm(dim=0)
        lengths, norms, finite = torch.stack([lengths, norms, moved.isfinite().all(0).double()]).cpu()  # the one wait
        if not bool(finite.all()):
            raise InputError(f"the Jacobian of step {self.seen} is not finite", hint="a smaller learning rate")
        self._frame = frame
        if self.seen <= self.warmup:
            return
        lost = lengths <= 8 * torch.finfo(torch.float64).eps * norms
        if bool(lost.any()):
            raise InputError(
                f"the Jacobian of step {self.seen} is singular ({int(lost.sum())} exponents of -inf)",
                hint="warmup= for the steps before the optimizer has a state, or fewer exponents (k=)",
            )
        self._growth.append(lengths.log())

    def result(self) -> LyapunovExponents:
        """The exponents so far. Raises :class:`InputError` where there was no step after the warmup."""
        if not self._growth or self._frame is None:
            raise InputError(f"{self.seen} steps with a warmup of {self.warmup}", expected="more steps than the warmup")
        growth = torch.stack(self._growth)
        counts = torch.arange(1, len(growth) + 1, dtype=torch.float64, device="cpu")[:, None]
        mean, order = growth.mean(0).sort(descending=True)
        growth = growth[:, order]
        return LyapunovExponents(
            exponents=mean,
            error=_block_errors(growth),
            growth=growth,
            running=growth.cumsum(0) / counts,
            size=self._frame.shape[0],
            steps=len(growth),
            warmup=self.warmup,
            products=self.products,
            seconds=time.perf_counter() - self._began,
        )

    def _start(self, size: int) -> Float[Tensor, "n k"]:
        k = size if self.k is None else self.k
        if k > size:
            raise InputError(f"{k} exponents of a map on {size} numbers", expected=f"at most {size}")
        require(4 * 8 * size * k, f"a frame of {k} vectors of length {size}", hint="fewer exponents (k=)")
        generator = torch.Generator().manual_seed(self.seed)
        return torch.linalg.qr(torch.randn(size, k, generator=generator, dtype=torch.float64, device="cpu")).Q


@checked(
    k=optional(integer(1)),
    lr=optional(real(above=0, most=LARGEST_RATE)),
    steps=optional(integer(1)),
    batch_size=optional(integer(1)),
    warmup=integer(0),
)
@in_plain_arithmetic
def lyapunov_exponents(
    source: Objective | Iterable[JacobianLike],
    k: int | None = None,
    *,
    lr: float | None = None,
    optimizer: OptimizerLike | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    warmup: int = 0,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> LyapunovExponents:
    """The leading ``k`` Lyapunov exponents (None: all) along a trajectory, per optimizer step.

    Args:
        source: an Objective, which is trained on copies of its model and optimizer; or an iterable of Jacobians (square
            matrices, or results of ``update_jacobian``).
        k: number of exponents.
        lr: learning rate of gradient descent, from the present parameters.
        optimizer: a live torch optimizer, instead of ``lr``, from its present state.
        steps: number of steps after the warmup, for an Objective.
        batch_size: number of samples drawn for each step; None: all data.
        warmup: number of first steps (or Jacobians) that align the frame and do not enter the averages.
        dtype: precision of the trajectory; None: that of the Objective.
        seed: seed of mini-batches and of the initial frame.

    Cost: for an Objective, k products and a gradient over the mini-batch for each step. Memory: a frame of
    (P (1 + state vectors), k) numbers. Raises :class:`InputError` for arguments that cannot be used, for a Jacobian
    that is singular or not finite, and for parameters that diverge; :class:`MemoryBudgetError` where the frame does not
    fit. Source: :class:`LyapunovTracker`.
    """
    tracker = LyapunovTracker(k, warmup=warmup, seed=seed)
    if isinstance(source, Objective):
        if steps is None:
            raise InputError("an Objective without steps", expected="how many to take", hint="steps=1000")
        jacobians: Iterable[JacobianLike] = trajectory(
            source, lr=lr, optimizer=optimizer, steps=warmup + steps, batch_size=batch_size, dtype=dtype, seed=seed
        )
    else:
        if lr is not None or optimizer is not None or steps is not None or batch_size is not None:
            raise InputError("lr, optimizer, steps or batch_size with Jacobians", expected="an Objective with these")
        if isinstance(source, Tensor | np.ndarray | str) or not isinstance(source, Iterable):
            raise InputError(
                f"{type_of(source)} has no trajectory", expected="an Objective, or the Jacobians one by one"
            )
        jacobians = source
    for jacobian in jacobians:
        tracker.update(jacobian)
    return replace(tracker.result(), mode=source.mode if isinstance(source, Objective) else None)


@checked(
    objective=instance_of(Objective),
    lr=optional(real(above=0, most=LARGEST_RATE)),
    steps=integer(1),
    batch_size=optional(integer(1)),
)
@in_plain_arithmetic
def trajectory(
    objective: Objective,
    *,
    lr: float | None = None,
    optimizer: OptimizerLike | None = None,
    steps: int,
    batch_size: int | None = None,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> Iterator[UpdateJacobian]:
    """The Jacobians of ``steps`` successive optimizer steps, from the present parameters and optimizer state.

    The steps are taken on copies by the optimizer's update rule: model and optimizer are not changed.
    """
    if (lr is None) == (optimizer is None):
        raise InputError(
            "both lr and optimizer" if lr is not None else "neither lr nor optimizer", expected="one of them"
        )
    if lr is not None:
        optimizer = torch.optim.SGD(objective.tensors, lr=lr)
    assert optimizer is not None
    whole = in_precision(objective, dtype or objective.dtype)
    rule = rule_for(optimizer, objective.tensors)
    w = whole.parameters()
    state = {name: v if name == "step" else v.to(w) for name, v in rule.state().items()}
    batches = (
        itertools.repeat(whole, steps) if batch_size is None else mini_batches(whole, batch_size, steps, seed=seed)
    )
    for number, batch in enumerate(batches):
        yield update_jacobian(_RuleAt(rule, state), _Here(batch, w))
        w, state = rule.update(w, state, batch.gradient(w))
        if not bool(torch.isfinite(w).all()):
            raise InputError(f"the parameters diverge at step {number + 1}", hint="a smaller learning rate")


class _RuleAt:
    """An update rule in a given state instead of the live optimizer's."""

    def __init__(self, rule: UpdateRule, state: dict[str, Tensor]) -> None:
        self.tensors, self.update, self.layout = rule.tensors, rule.update, rule.layout
        self.gradients = rule.gradients
        self._state = state

    def state(self) -> dict[str, Tensor]:
        return dict(self._state)


class _Here:
    """An objective at given parameters instead of the live ones."""

    def __init__(self, objective: Objective, w: Float[Tensor, " P"]) -> None:
        self._objective, self._w = objective, w
        self.size = objective.size

    def parameters(self) -> Float[Tensor, " P"]:
        return self._w

    def gradient(self) -> Float[Tensor, " P"]:
        return self._objective.gradient(self._w)

    def hvp(self, V: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._objective.hvp(V, self._w)


def _block_errors(growth: Float[Tensor, "T k"]) -> Float[Tensor, " k"]:
    length = len(growth) // _BLOCKS
    if length < 2:
        return torch.full((growth.shape[1],), math.inf, dtype=torch.float64, device="cpu")
    means = growth[-length * _BLOCKS :].view(_BLOCKS, length, -1).mean(1)
    return means.std(0) / _BLOCKS**0.5
