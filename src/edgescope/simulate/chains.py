"""Chains of scalars, one deep linear mode: under Langevin noise or mini-batches, until their product passes a level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from edgescope.errors import InputError
from edgescope.simulate.replicas import over_threads
from edgescope.theory.arguments import one_number, positive_number, whole_number
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True, eq=False)
class Passages:
    """When each of R replicas first passed the level. ``times`` are steps times the learning rate.

    Where ``passed`` is False the replica had not passed when it was stopped, at ``times``. ``weights`` are those at
    that time.
    """

    times: Float[np.ndarray, " R"]
    passed: Bool[np.ndarray, " R"]
    steps: Int[np.ndarray, " R"]
    weights: Float[np.ndarray, "R D"]


def chains(
    mode: Mode,
    decay: float,
    *,
    lr: float,
    steps: int,
    level: float,
    start: float = 0.0,
    temperature: float | None = None,
    batch: int | None = None,
    residual: float | None = None,
    replicas: int = 1,
    seed: int = 0,
    threads: int | None = None,
) -> Passages:
    """Descend v (s/v - prod w_l)^2 / 2 + decay/2 sum w_l^2 over the ``mode.depth`` scalars of a chain, step by step.

    Args:
        mode: depth, signal s and variance v of the inputs.
        decay: weight decay, the coefficient of the squares above.
        lr: learning rate; time is steps times it.
        steps: at most so many.
        level: stop a replica when its product rises above it or, if it starts above, falls below.
        start: the value at which all weights start.
        temperature: adds sqrt(2 lr temperature) N(0, 1) to every weight at every step; None adds none.
        batch: gradients of batches of so many fresh samples x ~ N(0, v), y = s/v x + noise, in place of the mean.
            A batch acts through sum x^2 and sum x noise alone, which are drawn exactly: any batch costs the same.
        residual: variance of that noise; by default what unit variance of y leaves, 1 - s^2/v.
        replicas: chains, each with its own random stream; the result does not depend on ``threads``.

    Raises :class:`InputError` for a decay, learning rate or temperature that is not positive, or a level at the start.
    Cost: about 0.1 us a step (depth 3, one core).
    """
    decay, lr = positive_number(decay, "decay"), positive_number(lr, "learning rate")
    steps, replicas = whole_number(steps, "steps", 1), whole_number(replicas, "replicas", 1)
    level, start = one_number(level, "level"), one_number(start, "start")
    jump = 0.0 if temperature is None else math.sqrt(2 * lr * positive_number(temperature, "temperature"))
    size = 0 if batch is None else whole_number(batch, "batch", 1)
    noise = 1 - mode.signal**2 / mode.variance if residual is None else one_number(residual, "residual variance")
    if size and noise < 0:
        raise InputError(f"residual variance {noise:.6g}", expected="zero or more", hint="residual=")
    if start**mode.depth == level:
        raise InputError(f"a start at the level {level:g} that is to be passed")
    weights = np.full((replicas, mode.depth), start)
    taken = np.empty(replicas, dtype=np.int64)

    def one(replica: int, stream: np.random.Generator) -> None:
        taken[replica] = _descend(
            weights[replica], mode.signal, mode.variance, decay, lr, jump, size, noise, level, steps, stream
        )

    over_threads(one, replicas, seed, threads)
    products = weights.prod(1)
    if not np.isfinite(products).all():
        raise InputError(f"a chain diverged at lr={lr:g}", hint="a smaller learning rate")
    passed = (products > level) != (start**mode.depth > level)
    return Passages(times=taken * lr, passed=passed, steps=taken, weights=weights)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _descend(
    w: Float[np.ndarray, " D"],
    signal: float,
    variance: float,
    decay: float,
    lr: float,
    jump: float,
    batch: int,
    residual: float,
    level: float,
    steps: int,
    rng: np.random.Generator,
) -> int:
    """Steps taken, ``w`` changed in place; stops at the first product on the other side of the level."""
    depth = w.size
    below = np.empty(depth)
    product = 1.0
    for layer in range(depth):
        product *= w[layer]
    above = product > level
    for step in range(steps):
        product = 1.0
        for layer in range(depth):
            below[layer] = product
            product *= w[layer]
        if (product > level) != above:
            return step
        pull = signal - variance * product
        if batch:
            spread = rng.chisquare(batch) / batch
            pull = pull * spread + math.sqrt(residual * variance * spread / batch) * rng.standard_normal()
        rest = 1.0
        for layer in range(depth - 1, -1, -1):
            old = w[layer]
            w[layer] = old - lr * (decay * old - pull * below[layer] * rest)
            if jump > 0:
                w[layer] += jump * rng.standard_normal()
            rest *= old
    return steps
