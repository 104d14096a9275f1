"""Bootstrap confidence intervals, by SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

from edgescope.errors import InputError
from edgescope.options import check_fields, integer, real

Statistic = Callable[[Int[np.ndarray, "B n"]], Float[np.ndarray, " B"]]


@dataclass(frozen=True)
class Bootstrap:
    """Settings of a bootstrap interval: the number of resamples, the confidence level, and the seed."""

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "Bootstrap", resamples=integer(100), level=real(above=0, below=1))

    def interval(self, statistic: Statistic, points: int) -> tuple[float, float]:
        """The percentile interval of a statistic of ``points`` points.

        ``statistic`` maps indices of points (B, n), one row for each resample, to B values; resamples for which it is
        NaN (not defined) are left out. Percentiles are used since the accelerated (BCa) interval is not defined where
        all resamples agree; an interval around 1 or -1 may have zero width. Source: Efron and Tibshirani 1993, ch. 13.
        """
        with warnings.catch_warnings():
            # An interval of zero width is a valid result.
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            drawn = scipy.stats.bootstrap(
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
    """How many times each of ``points`` points was drawn in each resample."""
    rows = np.arange(len(places))[:, None] * points
    return np.bincount((places + rows).ravel(), minlength=len(places) * points).reshape(len(places), points) * 1.0
