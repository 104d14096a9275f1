"""Exponents, with the number of directions that share each, from the nodes of a quadrature: plain or smoothed."""

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

_POINTS = 33  # points of equal mass that represent a Gaussian


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

    ``"slq"``: every node represents its share of the directions; the limit of the paper's histogram for narrow bins.
    ``"kde"``: the density of the exponents, smoothed by a Gaussian of standard deviation ``bandwidth``.
    ``"ps"``: the density of the nodes, smoothed in the same way and represented by ``quantiles`` points of equal mass
    (by default as many as there are directions), of which the exponents are then taken.

    The paper integrates densities by the trapezoidal rule from the top until the weighted integral returns to 0. The
    Kaplan-Yorke formula with weights is the same integral without bins. Source: Tuci et al. 2026, section on estimators
    (which does not state bin widths and bandwidths).
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
    """Silverman's bandwidth for the quantity that the estimator smooths; 0 for "slq", which does not smooth."""
    if estimator == "slq":
        return 0.0
    return rule_of_thumb(exponent(nodes) if estimator == "kde" else nodes, shares)


def rule_of_thumb(values: Float[Tensor, " n"], shares: Float[Tensor, " n"]) -> float:
    """Silverman's bandwidth, 0.9 min(deviation, quartile range / 1.34) n^(-1/5), n the effective number of values.

    The quartile range limits the influence of outliers on the smoothing of the bulk. The bandwidth is 0 (no smoothing)
    where half of the mass is at one value. Source: Silverman, Density Estimation, 1986, eq. 3.31.
    """
    mean = shares @ values
    deviation = float((shares @ (values - mean) ** 2).sqrt())
    low, high = quantile_points(values, shares, 2)
    effective = 1 / float((shares**2).sum())
    return 0.9 * min(deviation, float(high - low) / 1.34) * effective**-0.2


def smoothed(
    values: Float[Tensor, " n"], shares: Float[Tensor, " n"], width: float
) -> tuple[Float[Tensor, " j"], Float[Tensor, " j"]]:
    """A distribution convolved with a Gaussian: each value is replaced by points of equal mass with its variance."""
    if not 0 <= width < float("inf"):
        raise InputError(f"a bandwidth of {width}", expected="a finite number of at least 0")
    if width == 0:
        return values, shares
    levels = (torch.arange(_POINTS, dtype=torch.float64, device="cpu") + 0.5) / _POINTS
    normal = torch.special.ndtri(levels)
    normal = normal / normal.square().mean().sqrt()
    return (values[:, None] + width * normal).flatten(), (shares[:, None] / _POINTS).expand(-1, _POINTS).flatten()


def quantile_points(values: Float[Tensor, " n"], shares: Float[Tensor, " n"], count: int) -> Float[Tensor, " count"]:
    """The medians of ``count`` slices of equal mass: the quantiles at (i - 1/2) / count."""
    ordered, order = values.sort()
    sums = shares[order].cumsum(0)
    levels = (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / count * float(sums[-1])
    return ordered[torch.searchsorted(sums, levels).clamp(max=len(ordered) - 1)]
