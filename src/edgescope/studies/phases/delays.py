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


@dataclass(frozen=True)
class Trap:
    """Two states at one decay, each settled there, and the path between them; the loss is that without decay."""

    decay: float
    low: Float[Tensor, " P"]
    high: Float[Tensor, " P"]
    path: Barrier
    middle: float


def traps_at(
    parts: Parts,
    decays: Sequence[float],
    low: Float[Tensor, " P"],
    high: Float[Tensor, " P"],
    steps: int,
    path_steps: int,
) -> list[Trap]:
    """Both states after ``steps`` of descent with momentum at each decay, and the path from low to high there."""
    members = [Member(parts.config.lr, 0, 0.9, decay) for decay in decays for _ in range(2)]
    stack = _stack(parts, [low, high] * len(decays), members)
    for _ in range(steps):
        stack.step()
    ends, losses = stack.flat(), stack.losses(parts.samples)
    found = []
    for k, decay in enumerate(decays):
        whole: Objective = parts.objective(parts.samples, parts.mode, l2=decay, path="kept", threads=1)
        low, high = ends[2 * k], ends[2 * k + 1]
        path = barrier(whole, low, high, images=5, steps=path_steps, tol=0.02)
        found.append(Trap(decay, low, high, path, float(losses[2 * k : 2 * k + 2].mean())))
    return found


def escapes(
    parts: Parts, traps: Sequence[Trap], temperature: float, replicas: int, steps: int, seed: int
) -> tuple[Float[np.ndarray, "K R"], Bool[np.ndarray, "K R"]]:
    """Langevin descent from the low state of each trap until the loss is midway to that of the high one.

    Times (steps times the learning rate; of the whole run where it did not come so far), and which came so far.
    """
    lr = parts.config.lr
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
