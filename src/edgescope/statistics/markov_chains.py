"""Means over several Markov chains of one distribution: their errors, and whether the chains have mixed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import LEVEL, autocorrelation_time


@dataclass(frozen=True, eq=False)
class ChainTrace:
    """A quantity along k chains of equal length, kept as the means and mean squares of b equal pieces of each."""

    means: Float[np.ndarray, "b k"]
    squares: Float[np.ndarray, "b k"]

    def chain_means(self) -> Float[np.ndarray, " k"]:
        """The mean along each chain."""
        return self.means.mean(0)

    def halves(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """The mean over the first half of each chain, and over the second."""
        half = max(1, len(self.means) // 2)
        return self.means[:half].mean(0), self.means[-half:].mean(0)

    def error_between(self) -> float:
        """The standard error of the mean from the spread between chains; NaN for one chain."""
        means = self.chain_means()
        return float(means.std(ddof=1)) / math.sqrt(means.size) if means.size > 1 else math.nan

    def error_within(self) -> float:
        """The standard error of the mean from the autocorrelation within chains; NaN where chains are too short.

        The variance of the means of pieces, over the number of pieces that count as independent (Sokal 1997, sec. 3),
        with the variance of a short series freed of its bias as in :func:`edgescope.statistics.means.time_mean`.
        """
        b, k = self.means.shape
        time = self.time()
        if b < 2 * time or b < 4:
            return math.nan
        spread = float(self.means.var(0, ddof=1).mean()) / (1 - time / b)
        return math.sqrt(spread * time / (b * k))

    def time(self) -> float:
        """The mean over chains of the integrated autocorrelation time, in pieces."""
        return float(np.mean([autocorrelation_time(chain) for chain in self.means.T]))

    def independent(self) -> float:
        """How many independent pieces all chains together count as."""
        b, k = self.means.shape
        return b * k / self.time()

    def mean(self, sampled: str = "independent draws") -> Estimate:
        """The mean with the 95% interval of Student's t, from the larger of the two errors.

        Degrees of freedom are chains less one for the error between chains, independent pieces less one for that
        within. Without an interval where neither error is known.
        """
        value, between, within = float(self.means.mean()), self.error_between(), self.error_within()
        reaches = [
            float(scipy.special.stdtrit(max(count - 1, 1), (1 + LEVEL) / 2)) * error
            for error, count in ((between, self.means.shape[1]), (within, self.independent()))
            if math.isfinite(error)
        ]
        if not reaches:
            return Estimate(value)
        return Estimate(value, value - max(reaches), value + max(reaches), self.independent(), sampled)

    def r_hat(self) -> float:
        """Split R-hat: the spread of all draws over that within half chains; 1 where chains have mixed.

        Insensitive to a drift that is slow beside fast fluctuations: on singular models of a million samples it was
        1.02 where the mean was 10% off. Source: Vehtari et al. 2021 (arXiv 1903.08008), without ranks.
        """
        half = max(1, len(self.means) // 2)
        means, squares = (
            np.concatenate([part[:half], part[-half:]], axis=1).mean(0)[None] for part in (self.means, self.squares)
        )
        within = float((squares - means**2).mean())
        between = float(means.var(ddof=1))
        if not within > 0:
            return 1.0 if between == 0 else math.inf
        return math.sqrt(1 + between / within)

    def drift(self) -> float:
        """The probability of halves that differ as much as these or more, had the chains mixed (paired t over chains).

        1 for a single chain, of which nothing is known.
        """
        first, second = self.halves()
        if first.size < 2:
            return 1.0
        difference = second - first
        error = float(difference.std(ddof=1)) / math.sqrt(difference.size)
        if error == 0:
            return 1.0 if float(np.abs(difference).max()) == 0 else 0.0
        return float(2 * scipy.special.stdtr(difference.size - 1, -abs(float(difference.mean())) / error))
