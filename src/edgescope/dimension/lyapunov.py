"""Lyapunov exponents along a trajectory: the long-run growth rates of small differences between two runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.dimension.kaplan_yorke import crossing
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.objective import Objective, in_precision, mini_batches
from edgescope.optim import UpdateJacobian, UpdateRule, rule_for, update_jacobian

_BLOCKS = 10  # of consecutive steps; the spread of their means is the standard error, correlations within included


@dataclass(frozen=True)
class LyapunovExponents:
    """The leading k Lyapunov exponents, per step, of maps on ``size`` numbers, in descending order.

    ``errors`` are standard errors from the means of consecutive blocks of steps (infinite below two steps a block).
    ``growth`` (T, k) are the logarithms of the growth at each step after the ``warmup``; ``running`` (T, k) their means
    up to each step: where these lines are flat the exponents have converged. Averages of finite length are sorted at
    the end only, so a running column is one direction of the frame, not one rank.
    """

    exponents: Float[Tensor, " k"]
    errors: Float[Tensor, " k"]
    growth: Float[Tensor, "T k"]
    running: Float[Tensor, "T k"]
    size: int
    steps: int
    warmup: int
    products: int
    seconds: float

    @property
    def dimension(self) -> float | None:
        """The Kaplan-Yorke dimension; None where the leading k exponents do not yet sum to less than 0."""
        complete = len(self.exponents) == self.size or float(self.exponents.sum()) < 0
        return crossing(self.exponents, torch.ones_like(self.exponents)) if complete else None

    @property
    def drift(self) -> float:
        """The largest change of a running mean over the second half of the steps."""
        half = self.running[len(self.running) // 2 :]
        return float((half - half[-1]).abs().max())


class LyapunovTracker:
    """Lyapunov exponents step by step, for a loop that the caller writes: ``update`` before each optimizer step.

    An orthonormal frame of ``k`` random vectors (None: as many as the map has dimensions) is multiplied by every
    Jacobian and made orthonormal again by QR; ln|R_ii| is the growth. Holds two (size, k) arrays.
    Source: Benettin et al. 1980, Meccanica 15, 9; Eckmann and Ruelle 1985, Rev. Mod. Phys. 57, 617, section V.
    """

    def __init__(self, k: int | None = None, *, warmup: int = 0, seed: int = 0) -> None:
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise InputError(f"k={k}", expected="a whole number of at least 1, or None for all exponents")
        if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
            raise InputError(f"warmup={warmup}", expected="a whole number of at least 0")
        self.k, self.warmup, self.seed = k, warmup, seed
        self.seen = 0
        self.products = 0
        self._frame: Tensor | None = None
        self._growth: list[Tensor] = []
        self._began = time.perf_counter()

    def update(self, jacobian: Any) -> None:
        """Take one step's Jacobian: an :class:`UpdateJacobian`, a square matrix, or whatever multiplies with ``@``."""
        size = jacobian.shape[0] if isinstance(jacobian, Tensor) else jacobian.size
        if isinstance(jacobian, Tensor):
            if jacobian.ndim != 2 or jacobian.shape[0] != jacobian.shape[1]:
                raise InputError(f"a Jacobian of shape {tuple(jacobian.shape)}", expected="a square one")
            jacobian = jacobian.double()
        if self._frame is None:
            self._frame = self._start(size)
        if self._frame.shape[0] != size:
            raise InputError(f"a Jacobian of size {size} after ones of {self._frame.shape[0]}", expected="one size")
        moved = (jacobian @ self._frame).double()
        self.products += self._frame.shape[1]
        self.seen += 1
        if not bool(torch.isfinite(moved).all()):
            raise InputError(f"the Jacobian of step {self.seen} is not finite", hint="a smaller learning rate")
        self._frame, triangle = torch.linalg.qr(moved)
        if self.seen <= self.warmup:
            return
        lengths = triangle.diagonal().abs()
        lost = lengths <= 8 * torch.finfo(torch.float64).eps * moved.norm(dim=0)
        if bool(lost.any()):
            raise InputError(
                f"the Jacobian of step {self.seen} is singular ({int(lost.sum())} exponents of -inf)",
                hint="warmup= of the steps before the optimizer has a state, or fewer exponents (k=)",
            )
        self._growth.append(lengths.log().cpu())

    def result(self) -> LyapunovExponents:
        """The exponents so far; :class:`InputError` where no step came after the warmup."""
        if not self._growth or self._frame is None:
            raise InputError(f"{self.seen} steps with a warmup of {self.warmup}", expected="more steps than the warmup")
        growth = torch.stack(self._growth)
        counts = torch.arange(1, len(growth) + 1, dtype=torch.float64)[:, None]
        mean, order = growth.mean(0).sort(descending=True)
        growth = growth[:, order]
        return LyapunovExponents(
            exponents=mean,
            errors=_block_errors(growth),
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
        return torch.linalg.qr(torch.randn(size, k, generator=generator, dtype=torch.float64)).Q


def lyapunov_exponents(
    thing: Any,
    k: int | None = None,
    *,
    lr: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    warmup: int = 0,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> LyapunovExponents:
    """The leading ``k`` Lyapunov exponents (None: all) along a trajectory, per optimizer step.

    ``thing`` is an Objective, which is trained from its present parameters by plain gradient descent at ``lr`` or by a
    live ``optimizer`` from its present state, for ``warmup + steps`` steps, each on ``batch_size`` samples drawn by
    ``seed`` (None: all data), in ``dtype``; model and optimizer are left as they are. Or it is an iterable of
    Jacobians (square matrices, or what ``update_jacobian`` makes), of which the first ``warmup`` only turn the frame.

    Cost: for an Objective k products and a gradient a step, over the mini-batch; (P (1 + state vectors), k) numbers.
    Raises :class:`InputError` for what cannot be used, a map that is singular or not finite, or parameters that
    diverge; :class:`MemoryBudgetError` where the frame does not fit. Source: :class:`LyapunovTracker`.
    """
    tracker = LyapunovTracker(k, warmup=warmup, seed=seed)
    if isinstance(thing, Objective):
        if steps is None or steps < 1:
            raise InputError(f"steps={steps} for an Objective", expected="at least 1")
        jacobians: Iterable[Any] = trajectory(
            thing, lr=lr, optimizer=optimizer, steps=warmup + steps, batch_size=batch_size, dtype=dtype, seed=seed
        )
    else:
        if lr is not None or optimizer is not None or steps is not None or batch_size is not None:
            raise InputError("lr, optimizer, steps or batch_size with Jacobians", expected="an Objective with these")
        if isinstance(thing, Tensor) or not isinstance(thing, Iterable):
            raise InputError(
                f"a {type(thing).__name__} has no trajectory", expected="an Objective, or the Jacobians one by one"
            )
        jacobians = thing
    for jacobian in jacobians:
        tracker.update(jacobian)
    return tracker.result()


def trajectory(
    objective: Objective,
    *,
    lr: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    steps: int,
    batch_size: int | None = None,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> Iterator[UpdateJacobian]:
    """The update Jacobians of ``steps`` optimizer steps, one after the other, from the present parameters and state.

    Steps and Jacobians are those of the optimizer's rule, on copies: nothing of the user's is changed.
    """
    if (lr is None) == (optimizer is None):
        raise InputError(
            "both lr and optimizer" if lr is not None else "neither lr nor optimizer", expected="one of them"
        )
    if lr is not None:
        if not (math.isfinite(lr) and lr > 0):
            raise InputError(f"a learning rate of {lr}", expected="a positive finite number")
        optimizer = torch.optim.SGD(objective.tensors, lr=lr)
    assert optimizer is not None
    whole = in_precision(objective, dtype or objective.dtype)
    rule = rule_for(optimizer, objective.tensors)
    w = whole.parameters()
    state = {name: v if name == "step" else v.to(w) for name, v in rule.state().items()}
    batches = [whole] * steps if batch_size is None else mini_batches(whole, batch_size, steps, seed=seed)
    for number, batch in enumerate(batches):
        yield update_jacobian(cast(UpdateRule, _RuleAt(rule, state)), _Here(batch, w))
        w, state = rule.update(w, state, batch.gradient(w))
        if not bool(torch.isfinite(w).all()):
            raise InputError(f"the parameters diverge at step {number + 1}", hint="a smaller learning rate")


class _RuleAt:
    """An update rule in a given state instead of the live optimizer's."""

    def __init__(self, rule: UpdateRule, state: dict[str, Tensor]) -> None:
        self.tensors, self.update = rule.tensors, rule.update
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
        return torch.full((growth.shape[1],), math.inf, dtype=torch.float64)
    means = growth[-length * _BLOCKS :].view(_BLOCKS, length, -1).mean(1)
    return means.std(0) / _BLOCKS**0.5
