"""How long networks that are not linear stay trapped: the lowest path out, and escape under Langevin noise."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.objective import Objective
from edgescope.phases import Barrier, barrier
from edgescope.training import Member, Parts, Stack

QUICKER = 5
"""Langevin descent has so many times the learning rate of the sweep: beside the low state the loss is flat."""


@dataclass(frozen=True)
class Trap:
    """A low and a high state at one decay, settled there, and the path out of the low one.

    ``height`` and ``back`` are the loss (weight decay included) at the saddle over that of both states, NaN where the
    path did not converge; ``error`` is an estimate of how far either may be off. ``middle`` is midway between their
    losses without decay.
    """

    decay: float
    low: Float[Tensor, " P"]
    height: float
    back: float
    error: float
    middle: float


def traps_at(
    parts: Parts,
    decays: Sequence[float],
    low: Float[Tensor, " P"],
    high: Float[Tensor, " P"],
    steps: int,
    path_steps: int,
) -> list[Trap]:
    """Both states after ``steps`` of descent with momentum at each decay, and the path out of the low one."""
    members = [Member(parts.config.lr, 0, 0.9, decay) for decay in decays for _ in range(2)]
    stack = _stack(parts, [low, high] * len(decays), members)
    for _ in range(steps):
        stack.step()
    ends, losses = stack.flat(), stack.losses(parts.samples)
    found = []
    for k, decay in enumerate(decays):
        whole: Objective = parts.objective(parts.samples, parts.mode, l2=decay, path="kept", threads=1)
        low, high = ends[2 * k], ends[2 * k + 1]
        path = _way_out(whole, low, high, path_steps)
        height = path.height if path.converged else np.nan
        back = height + float(whole.loss(low) - whole.loss(high))
        found.append(Trap(decay, low, height, back, path.error, float(losses[2 * k : 2 * k + 2].mean())))
    return found


def _way_out(whole: Objective, low: Float[Tensor, " P"], high: Float[Tensor, " P"], steps: int) -> Barrier:
    """The path from ``low`` as far towards ``high`` as the straight line takes to come out lower than it began.

    Saddles beside small weights lie so near the low state that a path all the way would step over them.
    """
    shares = torch.logspace(-3, 0, 61, dtype=low.dtype)
    line = low + shares[:, None] * (high - low)
    lower = [float(whole.loss(w)) < float(whole.loss(low)) for w in line]
    return barrier(whole, low, line[lower.index(True) if any(lower) else -1], images=7, steps=steps, tol=0.01)


def escapes(
    parts: Parts, traps: Sequence[Trap], temperature: float, replicas: int, steps: int, seed: int
) -> tuple[Float[np.ndarray, "K R"], Bool[np.ndarray, "K R"]]:
    """Langevin descent from the low state of each trap until the loss is midway to that of the high one.

    Times (steps times the learning rate; of the whole run where it did not come so far), and which came so far.
    """
    lr = QUICKER * parts.config.lr
    each = [trap for trap in traps for _ in range(replicas)]
    stack = _stack(parts, [trap.low for trap in each], [Member(lr, 0, 0.0, trap.decay) for trap in each])
    generator, size = torch.Generator().manual_seed(seed), math.sqrt(2 * lr * temperature)
    times, escaped = np.full(len(each), steps * lr), np.zeros(len(each), dtype=bool)
    middle = np.array([trap.middle for trap in each])
    for step in range(steps):
        new = (stack.step().numpy() < middle) & ~escaped
        times[new], escaped = max(step, 0.5) * lr, escaped | new
        if escaped.all():
            break
        for tensor in stack.state()["parameters"].values():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=size)
    return times.reshape(len(traps), replicas), escaped.reshape(len(traps), replicas)


def _stack(parts: Parts, points: Sequence[Float[Tensor, " P"]], members: Sequence[Member]) -> Stack:
    objective: Objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
    before, models = objective.parameters(), []
    for point in points:
        objective.assign(point)
        models.append(copy.deepcopy(parts.model))
    objective.assign(before)
    return Stack(models, parts.loss_fn, parts.samples, members)
