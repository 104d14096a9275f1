"""Weight decay swept up and down quasi-statically, with warm starts: jumps of order parameters, and their loops."""

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

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.objective import Objective
from edgescope.optim import OPTIMIZERS
from edgescope.theory.arguments import as_positive, positive_number, whole_number

Progress = Callable[[float, str], None]
Way = Literal["up", "down"]

WAYS: tuple[Way, ...] = ("up", "down")

JUMP = 0.25
"""A change between neighbouring decays above this share of the whole range of an order parameter is a jump."""


@dataclass(frozen=True)
class Jump:
    """An order parameter that changed by ``size`` between two neighbouring decays, in the order of the sweep."""

    name: str
    way: Way
    before: float
    after: float
    size: float


@dataclass(frozen=True, eq=False)
class Scan:
    """Order parameters on the way ``up`` and ``down``, both in the order of rising ``decays``.

    ``states`` are the parameters where each decay was left, so that a path between two of one decay can be sought.
    ``residual`` is the norm of the gradient there, weight decay included, over what decay makes of the jitter of one
    weight; ``settled`` whether it fell below the tolerance. Where it did not, the network was still under way, as it
    is for long beside a continuous transition, and a loop may be wider than it is. ``between`` holds what was found at
    decays between neighbours, looked at because something changed much: decay to order parameters, for each way.
    """

    decays: Float[np.ndarray, " n"]
    up: dict[str, Float[np.ndarray, " n"]]
    down: dict[str, Float[np.ndarray, " n"]]
    between: dict[Way, dict[float, dict[str, float]]]
    states: dict[Way, Float[Tensor, "n P"]]
    residual: dict[Way, Float[np.ndarray, " n"]]
    settled: dict[Way, Bool[np.ndarray, " n"]]
    cost: Cost

    def jumps(self, name: str, share: float = JUMP) -> list[Jump]:
        """Changes above ``share`` of the range of the parameter, between decays as near as they were looked at.

        A continuous change shrinks as decays lie closer and a jump does not: what is left changes so much within an
        eighth of a step of the sweep (``refine=3``). Counts, such as the rank, always jump.
        """
        both = np.concatenate([self._of("up", name), self._of("down", name)])
        enough = max(share * float(np.ptp(both)), 1e-12)
        found = []
        for way in WAYS:
            values = dict(zip(self.decays.tolist(), self._of(way, name).tolist(), strict=True))
            values |= {decay: row[name] for decay, row in self.between[way].items()}
            for before, after in pairwise(sorted(values, reverse=way == "down")):
                size = values[after] - values[before]
                if abs(size) > enough:
                    found.append(Jump(name, way, before, after, size))
        return found

    def area(self, name: str) -> float:
        """The area between both ways over ln(decay), in units of the range of the parameter: 0 without hysteresis."""
        gap = np.abs(self._of("up", name) - self._of("down", name))
        reach = float(np.ptp(np.concatenate([self._of("up", name), self._of("down", name)])))
        return float(np.trapezoid(gap, np.log(self.decays))) / reach if reach > 0 else 0.0

    def _of(self, way: Way, name: str) -> Float[np.ndarray, " n"]:
        values = getattr(self, way)
        if name not in values:
            raise InputError(f"no order parameter '{name}'", expected=f"one of {', '.join(values)}")
        return values[name]


def scan(
    objective: Objective,
    decays: Sequence[float],
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
        objective: the loss without weight decay, on all data; its model starts the sweep and is left as it was.
        decays: positive, in any order.
        lr: learning rate.
        steps: optimizer steps at each decay, at most: a network that has settled goes on to the next. Growth and decay
            slow down towards a continuous transition, in proportion to the distance, and past the end of a state with
            its square root; look at ``settled``.
        optimizer: by name; its weight decay is what is swept, as the optimizer applies it. It has to be coupled (part
            of the gradient) for ``residual`` and ``settled`` to mean anything. Momentum is dropped where it leads
            uphill (O'Donoghue and Candes 2015), else it would swing networks over the saddles that hold them.
        order: order parameters by name, functions of the objective; by default ``norm``, ``loss``, ``rank`` (of the
            outputs over the data, singular values above 5% of those at the start of the sweep) and, where the
            loss has classes, ``accuracy``.
        jitter: standard deviation of what is added to every weight at each decay: states of exactly zero weights are
            stationary for any network, so that without it no way leads back from them.
        tol: settled is where the gradient, decay included, is this share of what decay makes of the jitter of one
            weight (without jitter: of a thousandth of the first weights' root mean square).
        refine: how many times to halve the ratio of two neighbouring decays between which an order parameter changed
            like in a jump, to tell a jump from a steep but continuous change and to place it.
        first: optimizer steps at the first decay, at most; ten times as many by default.

    Raises :class:`InputError` for decays that are not positive, an objective with an l2 term, an optimizer without
    weight decay, and networks that diverge. Cost: ``steps`` gradients for each decay, twice, at most; and for each
    change as large as a jump up to 2^refine - 1 times as many.
    """
    rising = np.unique(as_positive(list(decays), "decays"))
    if len(rising) < 2:
        raise InputError(f"{len(rising)} different decays", expected="at least 2")
    if objective.l2:
        raise InputError(f"an objective with l2={objective.l2:g}", expected="one without: its decay is what is swept")
    steps, refine = whole_number(steps, "steps", 1), whole_number(refine, "refine", 0)
    first = 10 * steps if first is None else whole_number(first, "first", 1)
    tol = positive_number(tol, "tol")
    if not (math.isfinite(jitter) and jitter >= 0):
        raise InputError(f"jitter={jitter:g}", expected="zero or more")
    before, start = objective.spent, objective.parameters()
    gradients = [tensor.grad for tensor in objective.tensors]
    sweep = _Sweep(objective, optimizer, positive_number(lr, "learning rate"), jitter, tol, order, seed)
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
                middle = sweep.visit(sweep.jittered(a.w), math.sqrt(a.decay * b.decay), steps, afresh=True)
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
    )


@dataclass(frozen=True, eq=False)
class _Visit:
    """Where the network came to rest, or was left, at one decay."""

    decay: float
    order: dict[str, float]
    w: Float[Tensor, " P"]
    residual: float


class _Sweep:
    """The optimizer that goes from decay to decay, and what it looks at."""

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
        return w + self.jitter * torch.randn(w.shape, generator=self.generator, dtype=w.dtype).to(w.device)

    def visit(self, start: Float[Tensor, " P"], decay: float, steps: int, afresh: bool = False) -> _Visit:
        """Train from ``start`` until settled, at most so many steps; ``afresh``: without the momentum of before."""
        objective, decay = self.objective, float(decay)
        objective.assign(start)
        if afresh:
            self.stepper.state.clear()
        for group in self.stepper.param_groups:
            group["weight_decay"] = decay
        last = objective.parameters()
        for _ in range(steps):
            gradient, w = objective.gradient(), objective.parameters()
            if self._residual(gradient, decay, w) <= self.tol:
                break
            if float((gradient + decay * w) @ (w - last)) > 0:
                self._stop()
            last = w
            for tensor, piece in zip(objective.tensors, objective.layout.split(gradient), strict=True):
                tensor.grad = piece.to(tensor.dtype)
            self.stepper.step()
        w = objective.parameters()
        if not torch.isfinite(w).all():
            raise InputError(f"the network diverged at decay {decay:g} and lr={self.lr:g}", hint="a smaller rate")
        self.measured = self.measured or _usual(objective)
        order = {name: float(of(objective)) for name, of in self.measured.items()}
        return _Visit(decay, order, w, self._residual(objective.gradient(), decay, w))

    def _stop(self) -> None:
        """Drop momentum, which has begun to lead uphill: it would swing networks over saddles that hold them."""
        for state in self.stepper.state.values():
            if isinstance(state.get("momentum_buffer"), Tensor):
                state["momentum_buffer"].zero_()

    def _residual(self, gradient: Float[Tensor, " P"], decay: float, w: Float[Tensor, " P"]) -> float:
        return float((gradient + decay * w).norm()) / (decay * self.scale)


def _usual(objective: Objective) -> dict[str, Callable[[Objective], float]]:
    """Norm and loss; rank and accuracy where outputs and classes can be told."""
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
        pass  # a loss that keeps its outputs to itself
    return usual


def _singular_values(objective: Objective) -> Float[Tensor, " k"]:
    """Of the outputs less their mean over the data: how many directions the network tells inputs apart by."""
    outputs = torch.cat([out.detach().flatten(1).double() for out, _ in objective.outputs()])
    return torch.linalg.svdvals(outputs - outputs.mean(0))
