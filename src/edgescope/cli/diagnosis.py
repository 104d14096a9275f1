"""The curvature at one point: the estimated cost, both ends of the spectrum, and the trace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from edgescope.errors import InputError
from edgescope.linalg import Eigenpairs, TraceEstimate, top_eigenpairs, trace
from edgescope.memory import readable
from edgescope.objective import Objective

TRACE_MATVECS = 60


@dataclass(frozen=True)
class EstimatedCost:
    """The estimated cost of a measurement: products, seconds (from the time of one product), and bytes."""

    products: int
    seconds: float
    memory: int

    def __str__(self) -> str:
        return (
            f"{self.products} curvature products of {self.seconds / self.products:.2g} s each, {self.seconds:.2g} s in"
            f" total, and {readable(self.memory)} for the search vectors"
        )


def estimate(objective: Objective, k: int, *, with_trace: bool, with_metric: bool) -> EstimatedCost:
    """Cost: the objective's own probe (5 to 20 gradients, once) and two products.

    The counts are those seen on networks: from a cold start some 25 products for an end of the spectrum and 5 more for
    each pair, 30 for one pair in a metric. The trace's are exact.
    """
    vector = torch.randn(
        objective.size, dtype=objective.dtype, generator=torch.Generator().manual_seed(0), device="cpu"
    )
    vector = vector.to(objective.device)
    objective.hvp(vector)
    began = time.perf_counter()
    objective.hvp(vector)
    each = time.perf_counter() - began
    products = 2 * (25 + 5 * k) + 30 * with_metric + TRACE_MATVECS * with_trace
    basis = min(objective.size, max(4 * k + 20, 60))
    return EstimatedCost(products, products * each, 2 * basis * objective.size * vector.element_size())


def both_ends(
    objective: Objective, k: int, seed: int, progress: Callable[[int, float], None] | None = None
) -> Eigenpairs:
    """The k largest and the k smallest eigenpairs of the Hessian; all of them where there are fewer than 2 k."""
    if 2 * k > objective.size:
        return top_eigenpairs(objective, objective.size, seed=seed, progress=progress)
    return top_eigenpairs(objective, k, which="both", seed=seed, progress=progress)


def trace_of(objective: Objective, seed: int) -> TraceEstimate:
    """The trace of the Hessian by Hutch++."""
    return trace(objective, num_matvecs=TRACE_MATVECS, seed=seed)


def check_point(objective: Objective) -> tuple[float, float]:
    """Loss and norm of the gradient at the model's own parameters; InputError where they are not finite."""
    loss, gradient = float(objective.loss()), float(objective.gradient().double().norm())
    if not (math.isfinite(loss) and math.isfinite(gradient)):
        raise InputError(
            f"at these weights the loss is {loss:g} and its gradient norm {gradient:g}",
            expected="finite values",
        )
    return loss, gradient
