"""The best learning rate of a sweep, and the interval of rates that are as good up to noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edgescope.extras import Optional

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

Criterion = Literal["test_loss", "train_loss", "steps"]

NEARLY: Final = 0.01
"""The share of the best value within which another one counts as equal, whatever the noise over seeds is."""


@dataclass(frozen=True)
class BestRate:
    """The learning rate ``lr`` with the smallest mean ``value`` over ``seeds`` seeds, and those as good as it.

    ``low`` and ``high`` are the smallest and the largest rate around it up to which every rate that was tried has a
    mean of at most ``value + noise``. ``noise`` is one standard error of the best mean over seeds, and at least 1% of
    it. ``low_open`` and ``high_open`` say that the interval ends with the rates that were tried, and may be wider.
    """

    criterion: Criterion
    lr: float
    value: float
    low: float
    high: float
    noise: float
    seeds: int
    low_open: bool
    high_open: bool


def best_rate(table: pl.DataFrame, criterion: Criterion) -> BestRate | None:
    """The best rate of a table with a row for each run; None where no run has a value that counts.

    ``table`` has the columns ``lr``, ``reached``, ``diverged`` and that of the criterion, in which a smaller value is
    better. A rate counts if all its runs have a value and none diverged; and if all of them have reached the stop loss,
    where there is such a rate or the criterion is the number of steps. Rates with fewer runs than others, some of which
    have failed, do not count. The rule of one standard error is that of Breiman et al. 1984 (Classification and
    Regression Trees, sec. 3.4.3). No cost.
    """
    value = pl.col(criterion)
    rows = (
        table.group_by("lr")
        .agg(
            pl.len().alias("runs"),
            (~pl.col("diverged") & value.is_not_null() & value.cast(pl.Float64).is_finite()).all().alias("held"),
            pl.col("reached").all(),
            value.mean().alias("mean"),
            value.cast(pl.Float64).std().alias("spread"),
        )
        .sort("lr")
        .rows(named=True)
    )
    most = max((row["runs"] for row in rows), default=0)
    counts = [bool(row["held"]) and row["runs"] == most for row in rows]
    reached = [one and bool(row["reached"]) for one, row in zip(counts, rows, strict=True)]
    if any(reached) or criterion == "steps":
        counts = reached
    if not any(counts):
        return None
    place = min((i for i, one in enumerate(counts) if one), key=lambda i: rows[i]["mean"])
    best = rows[place]
    noise = max(NEARLY * abs(best["mean"]), (best["spread"] or 0.0) / math.sqrt(most))

    def as_good(i: int) -> bool:
        return 0 <= i < len(rows) and counts[i] and bool(rows[i]["mean"] <= best["mean"] + noise)

    low = high = place
    while as_good(low - 1):
        low -= 1
    while as_good(high + 1):
        high += 1
    return BestRate(
        criterion,
        best["lr"],
        best["mean"],
        rows[low]["lr"],
        rows[high]["lr"],
        noise,
        most,
        low == 0,
        high == len(rows) - 1,
    )
