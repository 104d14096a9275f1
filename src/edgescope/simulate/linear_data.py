"""Data of linear networks: a joint Gaussian population, or fixed samples; both through their second moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.theory.arguments import as_numbers, whole_number

Sources = tuple[
    Float[np.ndarray, "N n"],
    Float[np.ndarray, "N m"],
    Float[np.ndarray, "m n"],
    Float[np.ndarray, "n n"],
    Float[np.ndarray, "m m"],
]
"""What batches are drawn from, for compiled code: fixed inputs and targets, or regression and roots of covariances."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Inputs x ~ N(0, covariance), targets y = B x + noise with E[y x'] = ``correlation`` (m, n).

    ``covariance`` (n, n) is the identity by default; ``residual`` (m, m) is the covariance of the noise, by default
    what is left for targets of unit variance, I - C covariance^-1 C'.
    """

    correlation: Float[np.ndarray, "m n"]
    covariance: Float[np.ndarray, "n n"] = None  # type: ignore[assignment]
    residual: Float[np.ndarray, "m m"] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        C = as_numbers(self.correlation, "correlation")
        if C.ndim != 2:
            raise InputError(f"a correlation of shape {C.shape}", expected="a matrix, outputs x inputs")
        covariance = np.eye(C.shape[1]) if self.covariance is None else as_numbers(self.covariance, "covariance")
        if covariance.shape != (C.shape[1],) * 2 or not np.allclose(covariance, covariance.T):
            raise InputError(f"a covariance of shape {covariance.shape}", expected=f"{C.shape[1]} x {C.shape[1]}")
        left = np.eye(len(C)) - C @ np.linalg.solve(covariance, C.T) if self.residual is None else self.residual
        for name, value in (("correlation", C), ("covariance", covariance), ("residual", np.asarray(left))):
            object.__setattr__(self, name, value)

    def sources(self, batches: bool = True) -> Sources:
        """No samples; the regression B, lower triangular L with L L' = covariance, a root of the noise covariance."""
        n, m = self.correlation.shape[::-1]
        nothing = np.empty((0, n)), np.empty((0, m))
        if not batches:
            return *nothing, np.zeros((m, n)), np.zeros((n, n)), np.zeros((m, m))
        values, vectors = np.linalg.eigh(self.residual)
        if values.min() < -1e-12:
            raise InputError(
                f"noise of the targets has variance {values.min():.6g} in some direction",
                expected="zero or more",
                hint="residual=, or smaller correlations",
            )
        try:
            L = np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise InputError("a covariance that is not positive definite") from None
        B = np.ascontiguousarray(np.linalg.solve(self.covariance, self.correlation.T).T)
        return *nothing, B, L, np.ascontiguousarray(vectors * np.sqrt(np.maximum(values, 0)))

    def draw(self, count: int, seed: int = 0) -> Samples:
        """``count`` independent samples."""
        rng = np.random.default_rng(seed)
        _, _, B, L, root = self.sources()
        x = rng.standard_normal((whole_number(count, "samples", 1), len(L))) @ L.T
        return Samples(x, x @ B.T + rng.standard_normal((count, len(root))) @ root.T)

    def loss(self, maps: Float[np.ndarray, "*S m n"]) -> Float[np.ndarray, "*S"]:
        """E |y - W x|^2 / 2 of end-to-end maps, which for large sets is the test loss."""
        power = np.trace(self.residual + self.correlation @ np.linalg.solve(self.covariance, self.correlation.T))
        return _loss(maps, self.correlation, self.covariance, power)


@dataclass(frozen=True, eq=False)
class Samples:
    """N fixed samples: ``inputs`` (N, n) and ``targets`` (N, m)."""

    inputs: Float[np.ndarray, "N n"]
    targets: Float[np.ndarray, "N m"]

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            object.__setattr__(self, name, np.ascontiguousarray(as_numbers(getattr(self, name), name)))
        if self.inputs.ndim != 2 or self.targets.ndim != 2 or not 0 < len(self.inputs) == len(self.targets):
            raise InputError(
                f"inputs of shape {self.inputs.shape} and targets of shape {self.targets.shape}",
                expected="two matrices, a row a sample",
            )

    def sources(self, batches: bool = True) -> Sources:
        """The samples, where batches are drawn from them; nothing to draw fresh ones from."""
        m, n, kept = self.targets.shape[1], self.inputs.shape[1], len(self.inputs) if batches else 0
        return self.inputs[:kept], self.targets[:kept], np.zeros((m, n)), np.zeros((n, n)), np.zeros((m, m))

    @cached_property
    def correlation(self) -> Float[np.ndarray, "m n"]:
        """Mean of y x'."""
        return self.targets.T @ self.inputs / len(self.inputs)

    @cached_property
    def covariance(self) -> Float[np.ndarray, "n n"]:
        """Mean of x x'."""
        return self.inputs.T @ self.inputs / len(self.inputs)

    def loss(self, maps: Float[np.ndarray, "*S m n"]) -> Float[np.ndarray, "*S"]:
        """Mean of |y - W x|^2 / 2 of end-to-end maps."""
        power = float((self.targets**2).sum() / len(self.targets))
        return _loss(maps, self.correlation, self.covariance, power)


def _loss(
    maps: Float[np.ndarray, "*S m n"], C: Float[np.ndarray, "m n"], covariance: Float[np.ndarray, "n n"], power: float
) -> Float[np.ndarray, "*S"]:
    return (power + ((maps @ covariance - 2 * C) * maps).sum((-1, -2))) / 2
