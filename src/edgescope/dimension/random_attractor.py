"""The paper's toy: particles in a corrugated bowl that take gradient steps and share their noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

    def gradient(self, x: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """The gradient of L at each particle."""
        (c0, c1), (s0, s1) = self._waves(x)
        pull = self.amplitude * self.frequency
        return np.stack([x[:, 0] + pull * s0 * c1, x[:, 1] + pull * c0 * s1], axis=1)

    def log_singular_values(self, x: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """ln sigma_1 >= ln sigma_2 of I - lr H at each particle; H has diagonal 1 + a and off-diagonal b."""
        (c0, c1), (s0, s1) = self._waves(x)
        curved = self.amplitude * self.frequency**2
        middle, half_gap = 1 + curved * c0 * c1, np.abs(curved * s0 * s1)
        sigma = np.abs(1 - self.lr * np.stack([middle - half_gap, middle + half_gap], axis=1))
        with np.errstate(divide="ignore"):
            return np.log(np.sort(sigma, axis=1)[:, ::-1])

    def run(self, particles: int = 600_000, steps: int = 250, *, warmup: int | None = None, seed: int = 0) -> Attractor:
        """Follow ``particles`` from the square [-2, 2]^2 for ``steps``; exponents after ``warmup`` (half) of them.

        Cost: some 0.1 s a step for 600,000 particles on one core, 100 bytes a particle. Raises :class:`InputError` for
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
            if step >= first:
                logs = self.log_singular_values(x)
                highest.append(logs.max(axis=0))
                means.append(np.mean(logs, axis=0))
            x = x - self.lr * self.gradient(x) + self.noise * rng.standard_normal(2)
        if not np.isfinite(x).all():
            raise InputError(f"the particles diverge at lr={self.lr:g}", hint="a learning rate below 2")
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

    def _waves(self, x: Float[np.ndarray, "N 2"]) -> tuple[Float[np.ndarray, "2 N"], Float[np.ndarray, "2 N"]]:
        phase = self.frequency * x.T
        return np.cos(phase), np.sin(phase)
