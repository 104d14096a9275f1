"""Critical learning rates of several batches as percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CriticalRates:
    """The learning rates at which steps turn unstable on single batches: their median, 10th and 90th percentile.

    ``batches`` is how many batches they are of, over ``seeds`` initializations or orders of the data. ``at_least`` says
    that the loss of some of them rises nowhere along the step, so that their rates count as the largest one tried.
    """

    median: float
    low: float
    high: float
    batches: int
    seeds: int
    at_least: bool = False

    @classmethod
    def of(cls, rates: Sequence[float], seeds: int, at_least: bool) -> CriticalRates:
        """The percentiles of logarithms of ``rates``, one a batch."""
        low, median, high = np.exp(np.percentile(np.log(rates), [10, 50, 90])).tolist()
        return cls(median, low, high, len(rates), seeds, at_least)

    def __str__(self) -> str:
        more = " or more" if self.at_least else ""
        return f"{self.median:.2g}{more} ({self.low:.2g} to {self.high:.2g})"
