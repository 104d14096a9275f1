"""Bootstrap confidence intervals of statistics of a sample, by SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from edgescope.errors import InputError

Statistic = Callable[[Int[np.ndarray, "B n"]], Float[np.ndarray, " B"]]


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is found: ``resamples`` of the points, drawn with replacement from ``seed``."""

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError(f"{self.resamples} bootstrap resamples", expected="at least 100")
        if not 0 < self.level < 1:
            raise InputError(f"a confidence level of {self.level}", expected="one between 0 and 1", hint="0.95")

    def interval(self, statistic: Statistic, points: int) -> tuple[float, float]:
        """The percentile interval of a statistic of ``points`` points, given as a function of their places.

        ``statistic`` maps places (B, n), one row a resample, to B values; a resample in which it is not defined (NaN)
        is left out. Percentiles, since the accelerated interval is not defined where all resamples agree; for the same
        reason an interval around 1 or -1 may have no width. Source: Efron and Tibshirani 1993, ch. 13.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # an interval without width is an answer
            drawn = stats.bootstrap(
                (np.arange(points),),
                lambda places, axis: statistic(np.atleast_2d(places)),
                n_resamples=self.resamples,
                batch=max(1, 2_000_000 // points),
                vectorized=True,
                axis=-1,
                confidence_level=self.level,
                method="percentile",
                rng=np.random.default_rng(self.seed),
            ).bootstrap_distribution
        drawn = drawn[np.isfinite(drawn)]
        if not drawn.size:
            raise InputError("the statistic is not defined in any bootstrap resample", expected="more points")
        low, high = np.quantile(drawn, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


def counts(places: Int[np.ndarray, "B n"], points: int) -> Float[np.ndarray, "B N"]:
    """How often each of ``points`` points was drawn into each resample."""
    rows = np.arange(len(places))[:, None] * points
    return np.bincount((places + rows).ravel(), minlength=len(places) * points).reshape(len(places), points) * 1.0
