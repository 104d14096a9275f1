"""Statistics of numbers and of point clouds, independent of networks."""

from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall import Granulated, RankCorrelation, granulated_kendall, kendall
from edgescope.statistics.partial import partial_rank_correlation
from edgescope.statistics.persistence import Persistence, lifetimes, persistence

__all__ = [
    "Estimate",
    "Granulated",
    "Persistence",
    "RankCorrelation",
    "granulated_kendall",
    "kendall",
    "lifetimes",
    "partial_rank_correlation",
    "persistence",
]
