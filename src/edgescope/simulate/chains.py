"""Chains of scalars (one mode of a deep linear network), simulated until their product crosses a level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from edgescope.errors import InputError
from edgescope.extras import compiled
from edgescope.memory import require
from edgescope.options import checked, integer, optional, real
from edgescope.simulate.replicas import over_threads
from edgescope.theory.arguments import one_number
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True, eq=False)
class FirstPassageTimes:
    """When each of R replicas first crossed the level. ``times`` are ``steps`` times the learning rate.

    Where ``passed`` is False the replica did not cross it, and ``times`` is the end of its simulation. ``weights`` are
    those of each chain at ``times``.
    """

    times: Float[np.ndarray, " R"]
    passed: Bool[np.ndarray, " R"]
    steps: Int[np.ndarray, " R"]
    weights: Float[np.ndarray, "R D"]


class _ChainSettings(NamedTuple):
    """The settings of one simulation, for compiled code; numba compiles no dataclasses."""

    signal: float
    variance: float
    decay: float
    lr: float
    noise: float
    batch: int
    residual: float
    level: float
    steps: int


@checked(
    decay=real(above=0),
    lr=real(above=0),
    steps=integer(1),
    start=real(),
    temperature=optional(real(above=0)),
    batch=optional(integer(1)),
    residual=optional(real()),
    replicas=integer(1),
    threads=optional(integer(1, 1024)),
)
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
) -> FirstPassageTimes:
    """Gradient descent on v (s/v - prod w_l)^2 / 2 + decay/2 sum w_l^2, over the ``mode.depth`` scalars of a chain.

    Args:
        mode: depth, signal s and input variance v.
        decay: weight decay, the coefficient in the loss above.
        lr: learning rate; time is steps times the learning rate.
        steps: the largest number of steps.
        level: a replica ends when its product crosses this value, from the side on which it starts.
        start: the initial value of all weights.
        temperature: Langevin noise: sqrt(2 lr temperature) N(0, 1) is added to every weight at every step. None: no
            noise.
        batch: number of fresh samples x ~ N(0, v), y = s/v x + noise in each mini-batch. A batch enters through the
            sums of x^2 and x noise alone; these are drawn exactly, so that the cost does not depend on its size. None:
            the mean over the distribution.
        residual: variance of that noise; by default 1 - s^2/v, which gives y unit variance.
        replicas: number of chains, each with its own random stream.
        seed: seed of the random streams.
        threads: number of threads that share the chains; the results do not depend on it.

    Raises :class:`InputError` for a decay, learning rate or temperature that is not positive, for chains that diverge,
    and where the product starts at the level. Cost: about 0.1 microseconds a step (depth 3, one core).
    """
    level = one_number(level, "level")
    left = 1 - mode.signal**2 / mode.variance if residual is None else residual
    if batch and left < 0:
        raise InputError(f"residual variance {left:.6g}", expected="zero or more", hint="residual=")
    require(8 * replicas * (mode.depth + 1), f"{replicas:,} chains of depth {mode.depth:,}", hint="fewer replicas")
    try:
        first = start**mode.depth
    except OverflowError:
        raise InputError(f"chains of depth {mode.depth} that start at {start:g}", expected="a finite product") from None
    if first == level:
        raise InputError(f"level={level:g} is the product at the start", expected="a level to be crossed")
    settings = _ChainSettings(
        signal=mode.signal,
        variance=mode.variance,
        decay=decay,
        lr=lr,
        noise=0.0 if temperature is None else math.sqrt(2 * lr * temperature),
        batch=batch or 0,
        residual=left,
        level=level,
        steps=steps,
    )
    weights = np.full((replicas, mode.depth), start)
    taken = np.empty(replicas, dtype=np.int64)

    def one(replica: int, stream: np.random.Generator) -> None:
        taken[replica] = _simulate_one(weights[replica], settings, stream)

    over_threads(one, replicas, seed, threads)
    products = weights.prod(1)
    if not np.isfinite(products).all():
        raise InputError(f"a chain diverged at lr={lr:g}", hint="a smaller learning rate")
    passed = (products > level) != (first > level)
    return FirstPassageTimes(times=taken * lr, passed=passed, steps=taken, weights=weights)


@compiled(cache=True, nogil=True, error_model="numpy")
def _simulate_one(w: Float[np.ndarray, " D"], settings: _ChainSettings, rng: np.random.Generator) -> int:
    """Train one chain, ``w``, in place until its product crosses the level; returns the number of steps."""
    signal, variance, decay, lr = settings.signal, settings.variance, settings.decay, settings.lr
    noise, batch, residual = settings.noise, settings.batch, settings.residual
    level, steps = settings.level, settings.steps
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
            if noise > 0:
                w[layer] += noise * rng.standard_normal()
            rest *= old
    return steps
