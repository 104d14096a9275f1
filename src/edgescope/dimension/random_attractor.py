"""A toy model: particles that take gradient steps in a corrugated bowl, all with the same noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgescope.dimension.boxes import BoxDimension, box_dimension
from edgescope.dimension.kaplan_yorke import kaplan_yorke
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import check_fields, checked, integer, optional, real


@dataclass(frozen=True)
class Attractor:
    """The particles after the last step, and the exponents along their trajectories.

    ``boxes`` is the box-counting dimension of ``points`` (N, d). ``exponents`` (d,) are the RDS sharpness of order 1 to
    d, per step: the mean over steps after the warmup of the supremum over particles of ln sigma_k. ``error`` (d,) is
    their standard error over steps. ``dimension`` is their Kaplan-Yorke dimension, the paper's dim_S, an upper bound of
    the box dimension. ``mean_exponents`` and ``mean_dimension`` use the mean over particles instead of the supremum, as
    estimators at one checkpoint do.
    """

    points: Float[np.ndarray, "N d"]
    boxes: BoxDimension
    exponents: Float[np.ndarray, " d"]
    error: Float[np.ndarray, " d"]
    dimension: float
    mean_exponents: Float[np.ndarray, " d"]
    mean_dimension: float


@dataclass(frozen=True)
class RandomAttractor:
    """x' = x - lr grad L(x) + noise xi on L(x) = ||x||^2 / 2 - A prod_i cos(k x_i), in two dimensions.

    Every step has one Gaussian xi for all particles, so that they converge to the pullback attractor of the noise.
    ``amplitude`` is A and ``frequency`` is k. The defaults are the paper's (A = 2, k = 4, lr = 0.15, noise 0.1, 250
    steps, 600,000 particles). Source: Tuci et al. 2026, arXiv 2604.19740.
    """

    amplitude: float = 2.0
    frequency: float = 4.0
    lr: float = 0.15
    noise: float = 0.1

    def __post_init__(self) -> None:
        size = real(least=0)
        check_fields(self, "RandomAttractor", lr=real(above=0), amplitude=size, frequency=size, noise=size)

    @checked(particles=integer(1000), steps=integer(1), warmup=optional(integer(0)))
    def run(self, particles: int = 600_000, steps: int = 250, *, warmup: int | None = None, seed: int = 0) -> Attractor:
        """Simulate ``particles``, initially uniform in the square [-2, 2]^2, for ``steps`` steps.

        Exponents are averaged over the steps after ``warmup`` (by default half of them). Cost: about 0.06 s a step for
        600,000 particles on one core. Raises :class:`InputError` for numbers that cannot be used, and for particles
        that diverge (lr of 2 or more).
        """
        from edgescope.dimension.particle_steps import advance  # here, since importing Numba takes 0.4 s

        first = steps // 2 if warmup is None else warmup
        if first >= steps:
            raise InputError(f"{steps} steps with a warmup of {first}", expected="more steps than the warmup")
        require(2 * 8 * particles, f"a random attractor of {particles:,} particles", hint="fewer particles")
        rng = np.random.default_rng(seed)
        x = rng.uniform(-2.0, 2.0, (particles, 2))
        highest, means = [], []
        for step in range(steps):
            shift = self.noise * rng.standard_normal(2)
            *sigma, mean_1, mean_2 = advance(x, shift, self.amplitude, self.frequency, self.lr)
            if math.isnan(mean_1):
                raise InputError(f"the particles diverge at lr={self.lr:g}", hint="a learning rate below 2")
            if step >= first:
                highest.append(np.log(sigma))
                means.append((mean_1, mean_2))
        exponents, mean_exponents = np.mean(highest, axis=0), np.mean(means, axis=0)
        spread = np.std(highest, axis=0, ddof=1) if len(highest) > 1 else np.full(2, math.inf)
        return Attractor(
            points=x,
            boxes=box_dimension(x),
            exponents=exponents,
            error=spread / math.sqrt(len(highest)),
            dimension=kaplan_yorke(exponents),
            mean_exponents=mean_exponents,
            mean_dimension=kaplan_yorke(mean_exponents, allow_singular=True),
        )
