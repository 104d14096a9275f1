"""The valley of the test loss over learning rates: where it is lowest, and how far it rises to both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.experiments.tradeoff.curves import Curve
from edgescope.experiments.tradeoff.over_rates import FEW
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean


@dataclass(frozen=True, eq=False)
class Valley:
    """Test losses over the rates that all seeds of a network reached, from the flow's end to the largest rate.

    ``lowest`` is the place, short of both ends, at which the mean over seeds is least; ``loss`` and ``norm`` (l2) have
    a row a seed.
    """

    seeds: tuple[str, ...]
    ratio: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, "s n"]
    norm: Float[np.ndarray, "s n"]

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Valley | None:
        """The valley of curves that differ in their seed; None where they have fewer than four rates in common.

        Rates are matched as multiples of the critical rate of each seed.
        """
        tables = [c.reached.select(pl.col("ratio").round(6), "test_loss", "l2").drop_nulls() for c in curves]
        common = sorted(set.intersection(*(set(table["ratio"]) for table in tables)))
        if len(common) < FEW:
            return None
        rows = [table.filter(pl.col("ratio").is_in(common)).sort("ratio") for table in tables]
        loss, norm = (np.stack([table[name].to_numpy() for table in rows]) for name in ("test_loss", "l2"))
        return cls(tuple(curve.name for curve in curves), np.array(common), loss, norm)

    @property
    def lowest(self) -> int:
        """The index of the rate short of both ends at which the mean loss is least."""
        return 1 + int(np.argmin(self.loss.mean(0)[1:-1]))

    @property
    def ends(self) -> Float[np.ndarray, "s 2"]:
        """By seed, how far the loss at the first and the last rate lies above that at the lowest, as shares of it."""
        return self.loss[:, [0, -1]] / self.loss[:, [self.lowest]] - 1

    @property
    def depth(self) -> Estimate:
        """The mean over seeds of the smaller of the two: negative where the loss is least at an end."""
        return sample_mean(self.ends.min(1))
