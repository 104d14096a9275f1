"""Quasi-static sweeps of weight decay, up and down with warm starts: jumps of order parameters, and hysteresis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.optim import OPTIMIZERS
from edgescope.options import check_function, checked, instance_of, integer, optional, real, text, type_of
from edgescope.progress import Progress
from edgescope.theory.arguments import as_positive

Way = Literal["up", "down"]

WAYS: tuple[Way, ...] = ("up", "down")

JUMP = 0.25
"""A change between neighbouring decays is a jump where it exceeds this fraction of the order parameter's range."""


@dataclass(frozen=True)
class Jump:
    """A change by ``size`` of an order parameter, from decay ``before`` to the next one visited, ``after``."""

    name: str
    way: Way
    before: float
    after: float
    size: float

    def __str__(self) -> str:
        changed = "rises" if self.size > 0 else "falls"
        between = f"between the decays {self.before:.3g} and {self.after:.3g}"
        return f"{self.name} {changed} by {abs(self.size):.3g} {between}, on the way {self.way}"


@in_notebooks
@dataclass(frozen=True, eq=False)
class Scan:
    """Order parameters on the way ``up`` and ``down``, both in the order of increasing ``decays``.

    ``states`` (n, P) are the parameters at the end of each decay, for each way; for example, as ends of a path between
    the two states at one decay. ``residual`` is the norm of the gradient there, weight decay included, over
    decay * jitter; ``settled`` says whether it fell below the tolerance. Where it did not (relaxation is slow near a
    continuous transition) the measured loop may be too wide. ``between`` holds order parameters at additional decays
    between neighbours with a large change, for each way. ``mode`` is that of the objective.
    """

    decays: Float[np.ndarray, " n"]
    up: dict[str, Float[np.ndarray, " n"]]
    down: dict[str, Float[np.ndarray, " n"]]
    between: dict[Way, dict[float, dict[str, float]]]
    states: dict[Way, Float[Tensor, "n P"]]
    residual: dict[Way, Float[np.ndarray, " n"]]
    settled: dict[Way, Bool[np.ndarray, " n"]]
    cost: Cost
    mode: str | None = None

    def jumps(self, name: str, share: float = JUMP) -> list[Jump]:
        """Changes of more than ``share`` of the order parameter's range, between decays as close as were visited.

        A continuous change becomes smaller as the decays get closer, and a jump does not: these changes occur within an
        eighth of a step of the sweep (for ``refine=3``). Integer order parameters, such as the rank, always jump.
        """
        both = np.concatenate([self._of("up", name), self._of("down", name)])
        smallest = max(share * float(np.ptp(both)), 1e-12)
        found = []
        for way in WAYS:
            values = dict(zip(self.decays.tolist(), self._of(way, name).tolist(), strict=True))
            values |= {decay: row[name] for decay, row in self.between[way].items()}
            for before, after in pairwise(sorted(values, reverse=way == "down")):
                size = values[after] - values[before]
                if abs(size) > smallest:
                    found.append(Jump(name, way, before, after, size))
        return found

    def area(self, name: str) -> float:
        """The area between the two ways over ln(decay), in units of the order parameter's range; 0: no hysteresis."""
        gap = np.abs(self._of("up", name) - self._of("down", name))
        reach = float(np.ptp(np.concatenate([self._of("up", name), self._of("down", name)])))
        return float(np.trapezoid(gap, np.log(self.decays))) / reach if reach > 0 else 0.0

    def _of(self, way: Way, name: str) -> Float[np.ndarray, " n"]:
        values = getattr(self, way)
        if name not in values:
            raise InputError(f"no order parameter '{name}'", expected=f"one of {', '.join(values)}")
        return values[name]


@checked(
    objective=instance_of(Objective),
    lr=real(above=0),
    steps=integer(1),
    optimizer=text(empty=False),
    jitter=real(least=0),
    tol=real(above=0),
    refine=integer(0, 20),
    first=optional(integer(1)),
    progress=optional(check_function),
)
@in_plain_arithmetic
def scan(
    objective: Objective,
    decays: Sequence[float] | Float[np.ndarray, " n"],
    *,
    lr: float,
    steps: int,
    optimizer: str = "sgd:momentum=0.9",
    order: Mapping[str, Callable[[Objective], float]] | None = None,
    jitter: float = 0.0,
    tol: float = 0.01,
    refine: int = 3,
    first: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scan:
    """Train at each decay in turn, up and then down, every time from where the last one ended.

    Args:
        objective: the loss on all data, without weight decay. The sweep starts from the parameters of its model, which
            is not changed.
        decays: the weight decays, positive, in any order.
        lr: learning rate.
        steps: the largest number of optimizer steps at each decay; a network that has settled goes on to the next
            decay. Relaxation slows down near transitions: check ``settled``.
        optimizer: name and options of the optimizer, whose weight decay is swept. It has to be coupled weight decay
            (part of the gradient) for ``residual`` and ``settled`` to have a meaning. Momentum is reset where it points
            uphill (O'Donoghue and Candes 2015), since it could carry a network over a saddle.
        order: order parameters by name, as functions of the objective. By default ``norm``, ``loss``, ``rank`` (the
            number of singular values of the outputs over the data above 5% of the largest at the start of the sweep)
            and, where the loss has classes, ``accuracy``.
        jitter: standard deviation of the noise added to every weight at each decay. All weights 0 is a stationary state
            of any network, which no sweep leaves without noise.
        tol: a network has settled where the norm of the gradient, decay included, is at most tol * decay * jitter
            (without jitter: a thousandth of the root mean square of the first weights in its place).
        refine: how many times the interval between two neighbouring decays is halved, in ln(decay), where an order
            parameter changes as in a jump: to distinguish jumps from steep continuous changes, and to locate them.
        first: the largest number of optimizer steps at the first decay, by default 10 ``steps``.
        seed: seed of the noise.
        progress: is called with the fraction done and a line of text.

    Raises :class:`InputError` for decays that are not positive, an objective with an l2 term, an optimizer without
    weight decay, and networks that diverge. Cost: at most ``steps`` gradients for each decay and way, and up to
    2^refine - 1 times as many for each change that is as large as a jump.
    """
    rising = np.unique(as_positive(decays if isinstance(decays, str) else np.asarray(decays), "decays"))
    if len(rising) < 2:
        raise InputError(f"{len(rising)} different decays", expected="at least 2")
    if objective.l2:
        raise InputError(f"an objective with l2={objective.l2:g}", expected="one without: its decay is what is swept")
    if order is not None and not (isinstance(order, Mapping) and all(callable(of) for of in order.values())):
        raise InputError(f"order given as {type_of(order)}", expected="functions of the objective by name")
    first = 10 * steps if first is None else first
    before, start = objective.spent, objective.parameters()
    gradients = [tensor.grad for tensor in objective.tensors]
    sweep = _Sweep(objective, optimizer, lr, jitter, tol, order, seed)
    found: dict[Way, list[_Visit]] = {"up": [], "down": []}
    between: dict[Way, dict[float, dict[str, float]]] = {"up": {}, "down": {}}
    plan: list[tuple[Way, float]] = [(way, d) for way in WAYS for d in (rising if way == "up" else rising[::-1])]
    try:
        w = start
        for number, (way, decay) in enumerate(plan):
            found[way].append(sweep.visit(w, decay, steps if number else first))
            w = sweep.jittered(found[way][-1].w)
            if progress:
                progress((number + 1) / (len(plan) + refine), f"{way}, decay {decay:.3g}")
        reach = {name: float(np.ptp([v.order[name] for row in found.values() for v in row])) for name in sweep.order}
        for way in WAYS:
            pending = [(a, b, refine) for a, b in pairwise(found[way])]
            while pending:
                a, b, left = pending.pop()
                if left == 0 or all(abs(b.order[n] - a.order[n]) <= JUMP * reach[n] for n in reach):
                    continue
                middle = sweep.visit(sweep.jittered(a.w), math.sqrt(a.decay * b.decay), steps, reset_momentum=True)
                between[way][middle.decay] = middle.order
                pending += [(a, middle, left - 1), (middle, b, left - 1)]
                if progress:
                    progress(len(plan) / (len(plan) + refine), f"{way}, between, decay {middle.decay:.4g}")
    finally:
        objective.assign(start)
        for tensor, gradient in zip(objective.tensors, gradients, strict=True):
            tensor.grad = gradient
    found["down"].reverse()
    return Scan(
        decays=rising,
        up={name: np.array([visit.order[name] for visit in found["up"]]) for name in sweep.order},
        down={name: np.array([visit.order[name] for visit in found["down"]]) for name in sweep.order},
        between=between,
        states={way: torch.stack([visit.w for visit in found[way]]) for way in WAYS},
        residual={way: np.array([visit.residual for visit in found[way]]) for way in WAYS},
        settled={way: np.array([visit.residual <= tol for visit in found[way]]) for way in WAYS},
        cost=objective.spent - before,
        mode=objective.mode,
    )


@dataclass(frozen=True, eq=False)
class _Visit:
    """The state of the network at the end of one decay."""

    decay: float
    order: dict[str, float]
    w: Float[Tensor, " P"]
    residual: float


class _Sweep:
    """The optimizer of a sweep, with the order parameters that are measured."""

    def __init__(
        self,
        objective: Objective,
        optimizer: str,
        lr: float,
        jitter: float,
        tol: float,
        order: Mapping[str, Callable[[Objective], float]] | None,
        seed: int,
    ) -> None:
        self.objective, self.measured, self.jitter, self.tol, self.lr = objective, dict(order or {}), jitter, tol, lr
        self.stepper = OPTIMIZERS.build(optimizer).build(objective.tensors, lr)
        if any("weight_decay" not in group for group in self.stepper.param_groups):
            raise InputError(f"optimizer '{optimizer}' has no weight decay", hint="'sgd:momentum=0.9' or 'adamw'")
        self.generator = torch.Generator().manual_seed(seed)
        w = objective.parameters()
        self.scale = jitter or 1e-3 * max(float(w.norm()) / math.sqrt(len(w)), 1e-30)

    @property
    def order(self) -> Sequence[str]:
        """The names of the order parameters."""
        return tuple(self.measured)

    def jittered(self, w: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        if not self.jitter:
            return w
        return w + self.jitter * torch.randn(w.shape, generator=self.generator, dtype=w.dtype, device="cpu").to(
            w.device
        )

    def visit(self, start: Float[Tensor, " P"], decay: float, steps: int, reset_momentum: bool = False) -> _Visit:
        """Train from ``start`` at one decay until the network has settled, for at most ``steps`` steps."""
        objective, decay = self.objective, float(decay)
        objective.assign(start)
        if reset_momentum:
            self.stepper.state.clear()
        for group in self.stepper.param_groups:
            group["weight_decay"] = decay
        last = objective.parameters()
        for _ in range(steps):
            gradient, w = objective.gradient(), objective.parameters()
            if self._residual(gradient, decay, w) <= self.tol:
                break
            if float((gradient + decay * w) @ (w - last)) > 0:
                self._reset_momentum()
            last = w
            for tensor, piece in zip(objective.tensors, objective.layout.split(gradient), strict=True):
                tensor.grad = piece.to(tensor.dtype)
            self.stepper.step()
        w = objective.parameters()
        if not torch.isfinite(w).all():
            raise InputError(
                f"the network diverged at decay {decay:g} and lr={self.lr:g}", hint="a smaller learning rate"
            )
        self.measured = self.measured or _usual(objective)
        order = {name: float(of(objective)) for name, of in self.measured.items()}
        return _Visit(decay, order, w, self._residual(objective.gradient(), decay, w))

    def _reset_momentum(self) -> None:
        """Set the momentum to 0, where it points uphill and could carry the network over a saddle."""
        for state in self.stepper.state.values():
            if isinstance(state.get("momentum_buffer"), Tensor):
                state["momentum_buffer"].zero_()

    def _residual(self, gradient: Float[Tensor, " P"], decay: float, w: Float[Tensor, " P"]) -> float:
        return float((gradient + decay * w).norm()) / (decay * self.scale)


def _usual(objective: Objective) -> dict[str, Callable[[Objective], float]]:
    """Norm and loss; also rank and accuracy where the loss gives access to outputs and classes."""
    usual: dict[str, Callable[[Objective], float]] = {
        "norm": lambda o: float(o.parameters().norm()),
        "loss": lambda o: float(o.loss()),
    }
    try:
        scale = float(_singular_values(objective)[0])
        usual["rank"] = lambda o: float((_singular_values(o) > 0.05 * scale).sum())
        objective.accuracy()
        usual["accuracy"] = lambda o: o.accuracy()
    except EdgescopeError:
        pass  # a loss without access to the outputs
    return usual


def _singular_values(objective: Objective) -> Float[Tensor, " k"]:
    """Singular values of the outputs over the data, minus their mean."""
    outputs = torch.cat([out.detach().flatten(1).double() for out, _ in objective.outputs()])
    return torch.linalg.svdvals(outputs - outputs.mean(0))
