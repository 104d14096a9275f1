"""From nodes and weights of quadratures to exponents and how many directions have each: plain, smoothed, quantiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError

Estimator = Literal["slq", "kde", "ps"]

Exponent = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]
"""The exponent of a node: ln|1 - x| for a node x = lr * eigenvalue."""

_POINTS = 33  # of equal mass that stand for one Gaussian


def exponents_of(
    nodes: Float[Tensor, " n"],
    shares: Float[Tensor, " n"],
    size: int,
    exponent: Exponent,
    estimator: Estimator,
    bandwidth: float = 0.0,
    quantiles: int | None = None,
) -> tuple[Float[Tensor, " j"], Float[Tensor, " j"]]:
    """Exponents, and how many of ``size`` directions have each, from ``nodes`` whose ``shares`` sum to 1.

    ``"slq"``: every node stands for its share of the directions, the limit of the paper's histogram for narrow bins.
    ``"kde"``: the density of the exponents, smoothed by a Gaussian of standard deviation ``bandwidth``.
    ``"ps"``: the density of the nodes, smoothed likewise, as ``quantiles`` points of equal mass (by default as many as
    there are directions), each then turned into its exponent.

    Where the paper integrates densities by trapezoids from the top until the weighted integral returns to 0, the
    Kaplan-Yorke formula with weights does the same integral without bins. Source: Tuci et al. 2026, section on
    estimators (bin widths and bandwidths are not stated there).
    """
    if estimator == "slq":
        return exponent(nodes), shares * size
    if estimator == "kde":
        values, masses = smoothed(exponent(nodes), shares, bandwidth)
        return values, masses * size
    points = quantile_points(*smoothed(nodes, shares, bandwidth), quantiles or size)
    return exponent(points), torch.full_like(points, size / len(points))


def default_bandwidth(
    nodes: Float[Tensor, " n"], shares: Float[Tensor, " n"], exponent: Exponent, estimator: Estimator
) -> float:
    """Silverman's bandwidth for what the estimator smooths; 0 for one that does not smooth."""
    if estimator == "slq":
        return 0.0
    return rule_of_thumb(exponent(nodes) if estimator == "kde" else nodes, shares)


def rule_of_thumb(values: Float[Tensor, " n"], shares: Float[Tensor, " n"]) -> float:
    """Silverman's bandwidth, 0.9 min(deviation, quartile range / 1.34) n^(-1/5), n the effective number of values.

    The quartile range keeps outliers from smearing the bulk; 0, no smoothing at all, where half of the mass is at one
    value. Source: Silverman, Density Estimation, 1986, eq. 3.31.
    """
    mean = shares @ values
    deviation = float((shares @ (values - mean) ** 2).sqrt())
    low, high = quantile_points(values, shares, 2)
    effective = 1 / float((shares**2).sum())
    return 0.9 * min(deviation, float(high - low) / 1.34) * effective**-0.2


def smoothed(
    values: Float[Tensor, " n"], shares: Float[Tensor, " n"], width: float
) -> tuple[Float[Tensor, " j"], Float[Tensor, " j"]]:
    """A distribution convolved with a Gaussian: each value becomes points of equal mass, of that variance."""
    if not 0 <= width < float("inf"):
        raise InputError(f"a bandwidth of {width}", expected="a finite number of at least 0")
    if width == 0:
        return values, shares
    levels = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
    normal = torch.special.ndtri(levels)
    normal = normal / normal.square().mean().sqrt()
    return (values[:, None] + width * normal).flatten(), (shares[:, None] / _POINTS).expand(-1, _POINTS).flatten()


def quantile_points(values: Float[Tensor, " n"], shares: Float[Tensor, " n"], count: int) -> Float[Tensor, " count"]:
    """The middles of ``count`` slices of equal mass: quantiles at (i - 1/2) / count."""
    ordered, order = values.sort()
    sums = shares[order].cumsum(0)
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count * float(sums[-1])
    return ordered[torch.searchsorted(sums, levels).clamp(max=len(ordered) - 1)]
