"""The dimension from the nodes of several mini-batches: order of averaging, dead zones, and jackknife errors."""

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
from edgescope.linalg.nodes import Nodes
from edgescope.linalg.spectral_density import student_factor

Averaging = Literal["sorted", "pooled", "each"]
Unit = list[Nodes]
"""A sample that averages and the jackknife are over: a mini-batch with its probes, or one probe of all data."""

_GROUPS = 20  # the largest number of groups of units that the jackknife leaves out in turn


@dataclass(frozen=True)
class DeadZone:
    """The dimension when the exponents of all directions within ``width`` of neutral are set to 0.

    The distance from neutral is |lr * eigenvalue| for gradient descent. ``neutral`` is the number of these directions.
    """

    width: float
    neutral: float
    dimension: float


@dataclass(frozen=True)
class Formula:
    """How a dimension is computed from nodes: by their ``exponent``, and the ``estimator`` for ``size`` directions."""

    exponent: Exponent
    estimator: Estimator
    size: int
    bandwidth: float
    quantiles: int | None

    def dimension(self, units: Sequence[Unit], averaging: Averaging) -> float:
        """The dimension of these units, with this order of averaging."""
        if averaging == "each":
            return sum(self.dimension([unit], "pooled") for unit in units) / len(units)
        return crossing(*self.parts(units, averaging))

    def parts(self, units: Sequence[Unit], averaging: Averaging) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Exponents in descending order, and how many directions have each.

        "sorted" averages rank by rank, over units that have every direction once; "pooled" combines all nodes.
        """
        if averaging == "sorted":
            each = [self.exponent(nodes.values).sort(descending=True).values for unit in units for nodes in unit]
            mean = torch.stack(each).mean(0)
            return mean, torch.ones_like(mean)
        nodes = pooled(units)
        exponents, directions = exponents_of(
            nodes.values, nodes.weights, self.size, self.exponent, self.estimator, self.bandwidth, self.quantiles
        )
        ordered, order = exponents.sort(descending=True)
        return ordered, directions[order]

    def drift(self, units: Sequence[Unit], coarse: Sequence[Unit] | None, averaging: Averaging) -> float:
        """The difference from the dimension at half the depth; infinite where the depth is a single step."""
        if coarse is None:
            return 0.0
        if self.size > 1 and all(len(nodes.values) == 1 for unit in units for nodes in unit):
            return math.inf
        return self.dimension(units, averaging) - self.dimension(coarse, averaging)

    def contraction(self, units: Sequence[Unit]) -> float:
        """The sum of all exponents, from the nodes without smoothing."""
        nodes = pooled(units)
        return self.size * float(nodes.weights @ self.exponent(nodes.values))

    def in_dead_zone(self, zone: float, units: Sequence[Unit], averaging: Averaging) -> DeadZone:
        """The dimension when the exponents of nodes closer than ``zone`` to neutral are set to 0."""
        nodes = pooled(units)
        neutral = self.size * float(nodes.weights[nodes.values.abs() < zone].sum())
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
    """The formula with ``bandwidth``, or with the default bandwidth for these units where it is None."""
    nodes = pooled(units)
    width = default_bandwidth(nodes.values, nodes.weights, exponent, estimator) if bandwidth is None else bandwidth
    return Formula(exponent, estimator, size, width, quantiles)


def pooled(units: Sequence[Unit]) -> Nodes:
    """All nodes of all units, every unit with the same weight; the weights sum to 1."""
    every = [nodes._replace(weights=nodes.weights / (len(unit) * len(units))) for unit in units for nodes in unit]
    return Nodes(*(torch.cat(pieces) for pieces in zip(*every, strict=True)))


def jackknife(figure: Callable[[Sequence[Unit]], float], units: Sequence[Unit]) -> float:
    """The jackknife standard error of a quantity over units, left out singly or in groups; infinite for one unit.

    Times Student's t, so that it covers 68.3% for few units, too.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, eq. 11.5.
    """
    groups = min(len(units), _GROUPS)
    if groups < 2:
        return math.inf
    without = [figure([unit for i, unit in enumerate(units) if i % groups != group]) for group in range(groups)]
    values = torch.tensor(without, dtype=torch.float64, device="cpu")
    return student_factor(groups) * float(((groups - 1) / groups * (values - values.mean()).square().sum()).sqrt())
