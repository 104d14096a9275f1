"""From the nodes of several mini-batches to one dimension: the order of averaging, the dead zone, the jackknife."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.dimension.estimators import Estimator, Exponent, default_bandwidth, exponents_of
from edgescope.dimension.kaplan_yorke import crossing
from edgescope.dimension.steps import Measure

Averaging = Literal["sorted", "pooled", "each"]
Unit = list[Measure]
"""What is averaged over, and what the jackknife leaves out: a mini-batch with its probes, or one probe of the whole."""

_GROUPS = 20  # of units, at most, that the jackknife leaves out in turn


@dataclass(frozen=True)
class DeadZone:
    """The dimension when all directions within ``width`` of neutral get the exponent 0; ``neutral`` counts them."""

    width: float
    neutral: float
    dimension: float


@dataclass(frozen=True)
class Formula:
    """How nodes become exponents (``exponent``, ``estimator``), and exponents of ``size`` directions a dimension."""

    exponent: Exponent
    estimator: Estimator
    size: int
    bandwidth: float
    quantiles: int | None

    def dimension(self, units: Sequence[Unit], averaging: Averaging) -> float:
        if averaging == "each":
            return sum(self.dimension([unit], "pooled") for unit in units) / len(units)
        return crossing(*self.parts(units, averaging))

    def parts(self, units: Sequence[Unit], averaging: Averaging) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Exponents in descending order, and how many directions have each.

        "sorted" averages order by order over units that hold every direction once; "pooled" puts all nodes together.
        """
        if averaging == "sorted":
            each = [self.exponent(nodes).sort(descending=True).values for unit in units for nodes, _ in unit]
            mean = torch.stack(each).mean(0)
            return mean, torch.ones_like(mean)
        nodes, shares = pooled(units)
        exponents, directions = exponents_of(
            nodes, shares, self.size, self.exponent, self.estimator, self.bandwidth, self.quantiles
        )
        ordered, order = exponents.sort(descending=True)
        return ordered, directions[order]

    def drift(self, units: Sequence[Unit], coarse: Sequence[Unit] | None, averaging: Averaging) -> float:
        """How far the dimension is from the one of half the depth; infinite where the depth was one step."""
        if coarse is None:
            return 0.0
        if self.size > 1 and all(len(nodes) == 1 for unit in units for nodes, _ in unit):
            return math.inf
        return self.dimension(units, averaging) - self.dimension(coarse, averaging)

    def contraction(self, units: Sequence[Unit]) -> float:
        """The sum of all exponents, from the nodes themselves."""
        nodes, shares = pooled(units)
        return self.size * float(shares @ self.exponent(nodes))

    def in_dead_zone(self, zone: float, units: Sequence[Unit], averaging: Averaging) -> DeadZone:
        """The dimension when nodes nearer than ``zone`` to neutral have the exponent 0."""
        nodes, shares = pooled(units)
        neutral = self.size * float(shares[nodes.abs() < zone].sum())
        flat = replace(self, exponent=lambda x: torch.where(x.abs() < zone, 0.0, self.exponent(x)))
        return DeadZone(zone, neutral, flat.dimension(units, averaging))


def fitted(
    exponent: Exponent,
    estimator: Estimator,
    size: int,
    units: Sequence[Unit],
    bandwidth: float | None,
    quantiles: int | None,
) -> Formula:
    """The formula with a bandwidth that suits these units, unless one is given."""
    width = default_bandwidth(*pooled(units), exponent, estimator) if bandwidth is None else bandwidth
    return Formula(exponent, estimator, size, width, quantiles)


def pooled(units: Sequence[Unit]) -> Measure:
    """All nodes of all units, every unit with the same weight; the shares sum to 1."""
    nodes = [nodes for unit in units for nodes, _ in unit]
    shares = [shares / (len(unit) * len(units)) for unit in units for _, shares in unit]
    return torch.cat(nodes), torch.cat(shares)


def jackknife(figure: Callable[[Sequence[Unit]], float], units: Sequence[Unit]) -> float:
    """The standard error of a figure over units, leaving out one (or a group of them) in turn; infinite for one unit.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, eq. 11.5.
    """
    groups = min(len(units), _GROUPS)
    if groups < 2:
        return math.inf
    without = [figure([unit for i, unit in enumerate(units) if i % groups != group]) for group in range(groups)]
    values = torch.tensor(without, dtype=torch.float64)
    return float(((groups - 1) / groups * (values - values.mean()).square().sum()).sqrt())
