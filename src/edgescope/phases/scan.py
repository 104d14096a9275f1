"""Weight decay swept up and down quasi-statically, with warm starts: jumps of order parameters, and their loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.objective import Objective
from edgescope.optim import OPTIMIZERS
from edgescope.theory.arguments import as_positive, whole_number

Progress = Callable[[float, str], None]
Way = Literal["up", "down"]

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
    ``residual`` is the norm of the gradient (weight decay included) over that of the decay term alone: far below 1
    where the network had settled.
    """

    decays: Float[np.ndarray, " n"]
    up: dict[str, Float[np.ndarray, " n"]]
    down: dict[str, Float[np.ndarray, " n"]]
    states: dict[Way, Float[Tensor, "n P"]]
    residual: dict[Way, Float[np.ndarray, " n"]]
    cost: Cost

    def jumps(self, name: str, share: float = JUMP) -> list[Jump]:
        """Changes between neighbouring decays above ``share`` of the range of the parameter."""
        found = []
        both = np.concatenate([self._of("up", name), self._of("down", name)])
        enough = share * float(np.ptp(both))
        for way in ("up", "down"):
            values, decays = self._of(way, name), self.decays  # type: ignore[arg-type]
            if way == "down":
                values, decays = values[::-1], decays[::-1]
            steps = np.diff(values)
            for i in np.flatnonzero(np.abs(steps) > max(enough, 1e-12)):
                found.append(Jump(name, way, float(decays[i]), float(decays[i + 1]), float(steps[i])))  # type: ignore[arg-type]
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
    first: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scan:
    """Train at each decay in turn, up and then down, every time from where the last one ended.

    Args:
        objective: the loss without weight decay, on all data; its model starts the sweep and is left as it was.
        decays: positive, in any order.
        lr: learning rate. steps: optimizer steps at each decay; ``first`` before the first (ten times as many).
        optimizer: by name; its weight decay is what is swept, as the optimizer applies it (coupled or not).
        order: order parameters by name, functions of the objective; by default ``norm``, ``loss``, ``rank`` (of the
            outputs over the data, singular values above 5% of those at the start of the sweep) and, where the
            loss has classes, ``accuracy``.
        jitter: standard deviation of what is added to every weight at each decay: states of exactly zero weights are
            stationary for any network, so that without it no way leads back from them.

    Raises :class:`InputError` for decays that are not positive, an objective with an l2 term, an optimizer without
    weight decay, and networks that diverge. Cost: ``steps`` gradients for each decay, twice.
    """
    rising = np.unique(as_positive(list(decays), "decays"))
    if len(rising) < 2:
        raise InputError(f"{len(rising)} different decays", expected="at least 2")
    if objective.l2:
        raise InputError(f"an objective with l2={objective.l2:g}", expected="one without: its decay is what is swept")
    whole_number(steps, "steps", 1)
    if not (math.isfinite(jitter) and jitter >= 0):
        raise InputError(f"jitter={jitter:g}", expected="zero or more")
    before, start = objective.spent, objective.parameters()
    stepper = OPTIMIZERS.build(optimizer).build(objective.tensors, lr)
    if any("weight_decay" not in group for group in stepper.param_groups):
        raise InputError(f"optimizer '{optimizer}' has no weight decay", hint="'sgd:momentum=0.9' or 'adamw'")
    generator = torch.Generator().manual_seed(seed)
    gradients = [tensor.grad for tensor in objective.tensors]
    ways: dict[Way, list[tuple[dict[str, float], Tensor, float]]] = {"up": [], "down": []}
    plan: list[tuple[Way, float]] = [("up", d) for d in rising] + [("down", d) for d in rising[::-1]]
    measured = dict(order or {})
    try:
        for number, (way, decay) in enumerate(plan):
            _descend(objective, stepper, decay, (first or 10 * steps) if number == 0 else steps)
            w = objective.parameters()
            if not torch.isfinite(w).all():
                raise InputError(f"the network diverged at decay {decay:g} and lr={lr:g}", hint="a smaller rate")
            if number == 0 and not measured:
                measured = _usual(objective)
            rest = float((objective.gradient() + decay * w).norm() / (decay * w).norm().clamp_min(1e-30))
            ways[way].append(({name: float(of(objective)) for name, of in measured.items()}, w, rest))
            if jitter:
                noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
                objective.assign(w + jitter * noise.to(w.device))
            if progress:
                progress((number + 1) / len(plan), f"{way}, decay {decay:.3g}")
    finally:
        objective.assign(start)
        for tensor, gradient in zip(objective.tensors, gradients, strict=True):
            tensor.grad = gradient
    ways["down"].reverse()
    return Scan(
        decays=rising,
        up={name: np.array([found[name] for found, _, _ in ways["up"]]) for name in measured},
        down={name: np.array([found[name] for found, _, _ in ways["down"]]) for name in measured},
        states={way: torch.stack([w for _, w, _ in rows]) for way, rows in ways.items()},
        residual={way: np.array([rest for _, _, rest in rows]) for way, rows in ways.items()},
        cost=objective.spent - before,
    )


def _descend(objective: Objective, stepper: torch.optim.Optimizer, decay: float, steps: int) -> None:
    for group in stepper.param_groups:
        group["weight_decay"] = decay
    for _ in range(steps):
        gradient = objective.gradient()
        for tensor, piece in zip(objective.tensors, objective.layout.split(gradient), strict=True):
            tensor.grad = piece.to(tensor.dtype)
        stepper.step()


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
