"""The memory that gradients and curvature products of an objective are expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.objective.objective import Objective
from edgescope.objective.paths import DoubleBackward


@dataclass(frozen=True)
class ExpectedMemory:
    """Peak bytes of a gradient and of a Hessian product, beside model and data; ``kept`` of these stay between products
    at one place, where graphs are kept."""

    gradient: int
    product: int
    kept: int


def expected_memory(objective: Objective) -> ExpectedMemory:
    """Estimated from the autograd graphs of a few samples.

    Cost: two gradients of at most 32 samples the first time, counted as preparation. Raises :class:`MemoryBudgetError`
    where a product does not fit in memory on any path.
    """
    planner, point = objective._curvature.planner, objective._at(None)
    with objective._curvature.ready(point, derivatives=False):
        memory = planner.prepare(point)
    keep = planner.keeps(memory)
    gradient = memory.vectors + 2 * memory.largest_chunk
    return ExpectedMemory(gradient, memory.needed(DoubleBackward(keep=keep), 1), memory.all_chunks if keep else 0)
