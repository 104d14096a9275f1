"""Training data of linear networks: a joint Gaussian distribution, or fixed samples, both with their second moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import checked, integer
from edgescope.theory.arguments import as_numbers


class BatchSource(NamedTuple):
    """What compiled code draws mini-batches from: N fixed samples, or a Gaussian distribution where N is 0.

    A sample of the distribution is x = ``root`` N(0, I) with target ``regression`` x + ``noise_root`` N(0, I). A named
    tuple, since numba compiles no dataclasses.
    """

    inputs: Float[np.ndarray, "N n"]
    targets: Float[np.ndarray, "N m"]
    regression: Float[np.ndarray, "m n"]
    root: Float[np.ndarray, "n n"]
    noise_root: Float[np.ndarray, "m m"]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Inputs x ~ N(0, covariance) and targets y = B x + noise, with E[y x'] = ``correlation`` (m, n).

    ``covariance`` (n, n) is the identity by default. ``residual`` (m, m) is the covariance of the noise; by default
    I - C covariance^-1 C', which gives the targets unit variance.
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

    def batch_source(self, batches: bool = True) -> BatchSource:
        """The distribution that fresh samples are drawn from: B, the Cholesky factor of the covariance, a noise root.

        Without ``batches`` only the shapes are right. Raises :class:`InputError` for a covariance that is not positive
        definite or a noise covariance that is not positive semidefinite.
        """
        n, m = self.correlation.shape[::-1]
        no_samples = np.empty((0, n)), np.empty((0, m))
        if not batches:
            return BatchSource(*no_samples, np.zeros((m, n)), np.zeros((n, n)), np.zeros((m, m)))
        values, vectors = np.linalg.eigh(self.residual)
        if values.min() < -1e-12:
            raise InputError(
                f"the noise of the targets has variance {values.min():.6g} in some direction",
                expected="zero or more",
                hint="residual=, or smaller correlations",
            )
        try:
            L = np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise InputError("a covariance that is not positive definite") from None
        B = np.ascontiguousarray(np.linalg.solve(self.covariance, self.correlation.T).T)
        return BatchSource(*no_samples, B, L, np.ascontiguousarray(vectors * np.sqrt(np.maximum(values, 0))))

    @checked(count=integer(1))
    def draw(self, count: int, seed: int = 0) -> Samples:
        """Draw ``count`` independent samples."""
        rng = np.random.default_rng(seed)
        _, _, B, L, root = self.batch_source()
        require(3 * 8 * count * (len(L) + len(root)), f"{count:,} samples", hint="fewer")
        x = rng.standard_normal((count, len(L))) @ L.T
        return Samples(x, x @ B.T + rng.standard_normal((count, len(root))) @ root.T)

    def loss(self, maps: Float[np.ndarray, "*S m n"]) -> Float[np.ndarray, "*S"]:
        """E |y - W x|^2 / 2 for each end-to-end map W: the population loss."""
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
                expected="two matrices with one row for each sample",
            )

    def batch_source(self, batches: bool = True) -> BatchSource:
        """The samples that batches are drawn from; none where there are no ``batches``."""
        m, n, kept = self.targets.shape[1], self.inputs.shape[1], len(self.inputs) if batches else 0
        zeros = np.zeros((m, n)), np.zeros((n, n)), np.zeros((m, m))
        return BatchSource(self.inputs[:kept], self.targets[:kept], *zeros)

    @cached_property
    def correlation(self) -> Float[np.ndarray, "m n"]:
        """Mean of y x'."""
        return self.targets.T @ self.inputs / len(self.inputs)

    @cached_property
    def covariance(self) -> Float[np.ndarray, "n n"]:
        """Mean of x x'."""
        return self.inputs.T @ self.inputs / len(self.inputs)

    def loss(self, maps: Float[np.ndarray, "*S m n"]) -> Float[np.ndarray, "*S"]:
        """The mean of |y - W x|^2 / 2 over the samples, for each end-to-end map W."""
        power = float((self.targets**2).sum() / len(self.targets))
        return _loss(maps, self.correlation, self.covariance, power)


def _loss(
    maps: Float[np.ndarray, "*S m n"], C: Float[np.ndarray, "m n"], covariance: Float[np.ndarray, "n n"], power: float
) -> Float[np.ndarray, "*S"]:
    return (power + ((maps @ covariance - 2 * C) * maps).sum((-1, -2))) / 2
