"""Averages over time of a trajectory that oscillates, to compare a flow with: midpoints, block means, covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError
from edgescope.options import checked, integer
from edgescope.statistics.estimate import UNKNOWN, Estimate

LEVEL = 0.95

Series = Sequence[float] | Float[np.ndarray, " n"]
Diagonal = float | Float[Tensor, " P"]
"""A metric on parameter space: one number, or one for each entry."""


@in_plain_arithmetic
def midpoint(before: Float[Tensor, " P"], now: Float[Tensor, " P"], after: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """(w_{t-1} + 2 w_t + w_{t+1})/4, where the trajectory would be at time t without an oscillation of period two.

    An oscillation (-1)^t a, also one whose size grows linearly, cancels; linear motion stays as it is; of constant
    acceleration c per squared step remains c/4, as the error of the midpoint.
    """
    return (before + 2 * now + after) / 4


def midpoint_series(values: Series) -> Float[np.ndarray, " m"]:
    """:func:`midpoint` of a series of n numbers at its m = n - 2 inner times; empty for fewer than three."""
    x = np.asarray(values, dtype=float)
    return (x[:-2] + 2 * x[1:-1] + x[2:]) / 4


@checked(block=integer(1))
def block_mean(values: Series, block: int) -> Estimate:
    """The mean of a series with a 95% interval from the means of consecutive blocks of ``block`` values.

    The blocks count as independent, which they are where a block is longer than the series remembers; the interval is
    that of Student's t over their means. Values that are left at the beginning, less than a block, count in the mean
    alone. Without an interval for fewer than two blocks; a value that is not finite makes the mean unknown.
    """
    return block_ratio(values, np.ones(len(values)), block)


@checked(block=integer(1))
def block_ratio(numerator: Series, denominator: Series, block: int) -> Estimate:
    """The mean of one series over the mean of another of the same times, with a 95% interval from blocks.

    The interval is that of the block means of numerator - ratio · denominator, over the mean denominator (the delta
    method), with Student's t: what both series have in common, such as a falling loss, does not widen it. Without an
    interval for fewer than two blocks. Unknown for series that are empty, not finite, or whose denominator has mean 0.

    Raises :class:`InputError` for series of different lengths.
    """
    above, below = (np.asarray(values, dtype=float) for values in (numerator, denominator))
    if above.shape != below.shape or above.ndim != 1:
        raise InputError(
            f"series of shapes {above.shape} and {below.shape}", expected="two series of the same length, in time"
        )
    if not above.size or not (np.isfinite(above).all() and np.isfinite(below).all()) or below.mean() == 0:
        return UNKNOWN
    ratio = float(above.mean() / below.mean())
    blocks = above.size // block
    if blocks < 2:
        return Estimate(ratio, samples=blocks, sampled="blocks")
    residual = (above - ratio * below)[above.size - blocks * block :] / abs(below.mean())
    means = residual.reshape(blocks, block).mean(axis=1)
    reach = float(scipy.special.stdtrit(blocks - 1, (1 + LEVEL) / 2)) * float(means.std(ddof=1)) / math.sqrt(blocks)
    return Estimate(ratio, ratio - reach, ratio + reach, blocks, "blocks")


@in_plain_arithmetic
def principal_axes(
    basis: Float[Tensor, "P k"], covariance: Float[Tensor, "k k"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, "P k"]]:
    """Eigenvalues of a covariance X, descending, and its axes U q in parameter space, for a basis U with U'PU = I.

    Σ = U X U' has these eigenvalues in the metric P: v' P Σ P v of an axis v is its eigenvalue, and v' P v = 1.
    """
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0), basis @ vectors.flip(1)


@in_plain_arithmetic
def squared_components(
    axes: Float[Tensor, "P k"], metric: Diagonal, deviation: Float[Tensor, " P"]
) -> Float[Tensor, " k"]:
    """(v_i' P d)² of a deviation d = w_t - w(t) of an iterate from the flow, along axes v_i with v_i' P v_i = 1.

    The mean over time is the covariance measured along these axes, to be compared with the eigenvalues that
    :func:`principal_axes` gives. ``metric`` is the diagonal of P. A constant distance between flow and average
    trajectory is part of it.
    """
    return (axes.mT @ (metric * deviation)).square()
