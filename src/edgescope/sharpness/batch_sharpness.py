"""Batch sharpness: the curvature of the losses of mini-batches along their own gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import scipy
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost, in_passes
from edgescope.errors import InputError, NotKnownError
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.objective.batch_curvature import along_gradients
from edgescope.options import check_bool, checked, integer, real
from edgescope.statistics import Estimate
from edgescope.statistics.means import LEVEL


@in_notebooks
@dataclass(frozen=True)
class BatchSharpness:
    """Curvature along gradients of mini-batches of ``size`` samples, in the unit of a Hessian eigenvalue.

    ``value`` is the mean over mini-batches B of g_B'H_B g_B / ||g_B||², ``weighted`` the ratio of the means of
    g_B'H_B g_B and ||g_B||², in which long gradients count more; ``interaction`` is as ``value`` with the Hessian of
    all data in place of H_B, None unless asked for. Each has its standard error and a 95% interval, over the draw of
    the mini-batches; those of a full batch are exact. ``products`` are g_B'H_B g_B, ``full_products`` g_B'H g_B, and
    ``squares`` ||g_B||², mini-batch by mini-batch.
    """

    value: float
    error: float
    interval: Estimate
    weighted: float
    weighted_error: float
    weighted_interval: Estimate
    interaction: float | None
    interaction_error: float | None
    interaction_interval: Estimate | None
    size: int
    products: Float[np.ndarray, " M"] = field(repr=False)
    full_products: Float[np.ndarray, " M"] | None = field(repr=False)
    squares: Float[np.ndarray, " M"] = field(repr=False)
    cost: Cost
    mode: str | None = None


@checked(size=integer(1), count=integer(2), interaction=check_bool, decay=real(least=0))
@in_plain_arithmetic
def batch_sharpness(
    objective: Objective,
    size: int,
    count: int = 30,
    *,
    seed: int = 0,
    interaction: bool = False,
    decay: float = 0.0,
) -> BatchSharpness:
    """Batch sharpness at the model's parameters, from ``count`` mini-batches of ``size`` samples of ``objective``.

    SGD with a constant learning rate settles where the weighted one is about 2/lr, while the largest eigenvalue of the
    whole Hessian stays below; it is not a border of stability. With Polyak momentum β it settles at 2(1-β)/lr on small
    mini-batches, and on large ones the eigenvalue does at 2(1+β)/lr. ``value`` approaches ``weighted`` where the
    gradients of mini-batches are about equally long, and on few samples stays below. See docs/mini_batches.md.

    Mini-batches are drawn without replacement from ``seed`` alone; with ``size`` equal to the number of samples there
    is one, and no error. ``interaction`` also takes the products of the whole Hessian with the same gradients.
    ``decay`` is a weight decay that the optimizer adds to the gradient: g_B + decay w, H_B + decay.

    The intervals are those of Student's t, for the ratio of means by the delta method: covering in 95% of draws
    (tests/sharpness/test_batch_sharpness.py), fewer where single mini-batches have much the longest gradients: on
    mini-batches of two samples of small networks 90%, for the ratio of means 83% (docs/benchmarks.md).

    Cost: ``count`` products on ``size`` samples and one gradient for each (two where memory does not allow to keep
    graphs); with ``interaction`` ``count`` products on all data beside. Raises :class:`InputError` for a size that does
    not fit, data that are sharded or cannot be split, or derivatives that are not finite, and :class:`NotKnownError`
    where a gradient is zero. Source: Andreyev and Beneventano 2024, arXiv 2412.20553; the weighted one is this
    library's.
    """
    if size >= objective.samples:
        count = 1
    before = objective.spent
    products: list[float] = []
    full: list[float] = []
    squares: list[float] = []

    def take(gradient: Float[Tensor, " P"], product: Float[Tensor, " P"]) -> None:
        g = gradient.double()
        squares.append(float(g @ g))
        products.append(float(g @ product.double()) + decay * squares[-1])
        if interaction:
            full.append(float(g @ objective.hvp(gradient).double()) + decay * squares[-1])

    add = decay * objective.parameters() if decay else None
    spent = along_gradients(objective, size, count, take, seed=seed, add=add)
    objective.meter.add(in_passes(spent, size / objective.samples))
    n, d = np.array(products), np.array(squares)
    if not (np.isfinite(n).all() and np.isfinite(d).all()):
        raise InputError("a gradient or a Hessian product of a mini-batch is not finite (NaN or infinity)")
    if not (d > 0).all():
        raise NotKnownError("the gradient of a mini-batch is zero, so that it has no curvature along it")
    value, error, interval = mean_over_batches(n / d)
    weighted, weighted_error, weighted_interval = ratio_of_means(n, d)
    across = mean_over_batches(np.array(full) / d) if interaction else None
    cost = objective.spent - before
    return BatchSharpness(
        value,
        error,
        interval,
        weighted,
        weighted_error,
        weighted_interval,
        None if across is None else across[0],
        None if across is None else across[1],
        None if across is None else across[2],
        size,
        n,
        np.array(full) if interaction else None,
        d,
        cost,
        objective.mode,
    )


def mean_over_batches(values: Float[np.ndarray, " M"]) -> tuple[float, float, Estimate]:
    """The mean, its standard error, and Student's interval; exact for one value."""
    return _with_interval(float(values.mean()), values)


def ratio_of_means(above: Float[np.ndarray, " M"], below: Float[np.ndarray, " M"]) -> tuple[float, float, Estimate]:
    """mean(above)/mean(below), its standard error by the delta method, and Student's interval; exact for one pair."""
    ratio = float(above.mean() / below.mean())
    return _with_interval(ratio, (above - ratio * below) / below.mean())


def _with_interval(value: float, terms: Float[np.ndarray, " M"]) -> tuple[float, float, Estimate]:
    count = len(terms)
    if count == 1:
        return value, 0.0, Estimate.exact(value)
    error = float(terms.std(ddof=1)) / math.sqrt(count)
    reach = float(scipy.special.stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return value, error, Estimate(value, value - reach, value + reach, count, "mini-batches")
