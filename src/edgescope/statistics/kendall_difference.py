"""By how much one measure follows another quantity better than a second measure does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from edgescope.statistics.columns import checked_columns
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.intervals import Bootstrap, counts
from edgescope.statistics.kendall import over_pairs, pair_signs


def kendall_difference(
    first: Sequence[float], second: Sequence[float], target: Sequence[float], bootstrap: Bootstrap | None = None
) -> Estimate:
    """tau-b of ``first`` with ``target`` less that of ``second``, with a bootstrap interval over the same resamples.

    The points are resampled in common, since two measures of the same runs err together. n at least 3, no column
    constant; raises :class:`InputError` otherwise. Cost: 20 ms for 25 points and 2,000 resamples.
    Source: Kendall 1938; Efron and Tibshirani 1993, ch. 13.
    """
    columns = checked_columns({"first": first, "second": second, "target": target})
    x, y, z = (pair_signs(column) for column in columns)

    def difference(places: np.ndarray) -> Float[np.ndarray, " B"]:
        drawn = counts(places, len(columns[0]))
        with np.errstate(invalid="ignore", divide="ignore"):
            untied = [over_pairs(np.abs(signs), drawn) for signs in (x, y, z)]
            a, b = (
                over_pairs(signs * z, drawn) / np.sqrt(pairs * untied[2])
                for signs, pairs in ((x, untied[0]), (y, untied[1]))
            )
        return a - b

    value = float(difference(np.arange(len(columns[0]))[None])[0])
    low, high = (bootstrap or Bootstrap()).interval(difference, len(columns[0]))
    return Estimate(value, min(low, value), max(high, value), len(columns[0]), "points")
