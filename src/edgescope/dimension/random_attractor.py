"""The paper's toy: particles in a corrugated bowl that take gradient steps and share their noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float

from edgescope.dimension.boxes import BoxDimension, box_dimension
from edgescope.dimension.kaplan_yorke import kaplan_yorke
from edgescope.errors import InputError


@dataclass(frozen=True)
class Attractor:
    """Where the particles are after the last step, and the exponents along their way.

    ``boxes`` is the box-counting dimension of ``points`` (N, d). ``exponents`` (d,) are the RDS sharpness of order 1 to
    d: the mean over steps, after the warmup, of the supremum over all particles of ln sigma_k; ``dimension`` is their
    Kaplan-Yorke dimension, the paper's dim_S, which bounds the box dimension from above. ``mean_exponents`` and
    ``mean_dimension`` have the mean over particles in place of the supremum, as estimators at one checkpoint do.
    ``errors`` are standard errors of ``exponents`` over steps.
    """

    points: Float[np.ndarray, "N d"]
    boxes: BoxDimension
    exponents: Float[np.ndarray, " d"]
    errors: Float[np.ndarray, " d"]
    dimension: float
    mean_exponents: Float[np.ndarray, " d"]
    mean_dimension: float


@dataclass(frozen=True)
class RandomAttractor:
    """L(x) = ||x||^2 / 2 - A prod_i cos(k x_i); x' = x - lr grad L(x) + noise xi, one Gaussian xi a step for all.

    The defaults are the paper's (d = 2, A = 2, k = 4, lr = 0.15, noise 0.1, 250 steps, 600,000 particles). All
    particles of a run see the same noise, so what they are drawn to is the pullback attractor of that noise.
    Source: Tuci et al. 2026, arXiv 2604.19740.
    """

    amplitude: float = 2.0
    frequency: float = 4.0
    lr: float = 0.15
    noise: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"a learning rate of {self.lr}", expected="a positive finite number")
        for name in ("amplitude", "frequency", "noise"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name}={getattr(self, name)}", expected="a finite number of at least 0")

    def run(self, particles: int = 600_000, steps: int = 250, *, warmup: int | None = None, seed: int = 0) -> Attractor:
        """Follow ``particles`` from the square [-2, 2]^2 for ``steps``; exponents after ``warmup`` (half) of them.

        Cost: some 0.06 s a step for 600,000 particles on one core. Raises :class:`InputError` for
        counts that cannot be used, or particles that diverge (lr of 2 or more).
        """
        first = steps // 2 if warmup is None else warmup
        if not (particles >= 1000 and steps >= 1 and 0 <= first < steps):
            raise InputError(
                f"particles={particles}, steps={steps}, warmup={first}",
                expected="at least 1,000 particles and more steps than the warmup",
            )
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
            errors=spread / math.sqrt(len(highest)),
            dimension=kaplan_yorke(exponents),
            mean_exponents=mean_exponents,
            mean_dimension=kaplan_yorke(mean_exponents, allow_singular=True),
        )


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def advance(
    x: Float[np.ndarray, "N 2"], shift: Float[np.ndarray, " 2"], amplitude: float, frequency: float, lr: float
) -> tuple[float, float, float, float]:
    """One step of all particles in place; the largest sigma_1 and sigma_2 before it, and the mean of their logarithms.

    The Hessian has 1 + a on its diagonal and b beside it (the names below), so sigma are |1 - lr (1 + a -+ |b|)|.
    """
    highest_1, highest_2, total_1, total_2 = 0.0, 0.0, 0.0, 0.0
    pull, curve = amplitude * frequency, amplitude * frequency**2
    for i in range(x.shape[0]):
        c0, s0 = math.cos(frequency * x[i, 0]), math.sin(frequency * x[i, 0])
        c1, s1 = math.cos(frequency * x[i, 1]), math.sin(frequency * x[i, 1])
        middle, half_gap = 1 - lr * (1 + curve * c0 * c1), lr * abs(curve * s0 * s1)
        sigma_1 = abs(middle) + half_gap
        sigma_2 = abs(abs(middle) - half_gap)
        highest_1, highest_2 = max(highest_1, sigma_1), max(highest_2, sigma_2)
        total_1 += math.log(sigma_1)
        total_2 += math.log(sigma_2)
        x[i, 0] += shift[0] - lr * (x[i, 0] + pull * s0 * c1)
        x[i, 1] += shift[1] - lr * (x[i, 1] + pull * c0 * s1)
    return highest_1, highest_2, total_1 / x.shape[0], total_2 / x.shape[0]
