"""The measured gap between sharpness and threshold at one point, and the formula's terms, as readings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg import top_eigenpairs
from edgescope.measures import Reading
from edgescope.objective import Objective

MEASURE = "sharpness_gap"


def gap_readings(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    w: Float[Tensor, " P"],
    batch: int | None,
    start: Float[Tensor, "P k"] | None,
) -> tuple[list[Reading], Float[Tensor, "P k"]]:
    """The gap at ``w``, its terms for mini-batches of ``batch`` samples, and the eigenvector to start from next."""
    pairs = top_eigenpairs(objective.operator(w), k=1, start=start, tol=1e-3)
    threshold = 2 / float(optimizer.param_groups[0]["lr"])
    values = {"measured": threshold - float(pairs.values[0])}
    return [Reading(MEASURE, values)], pairs.vectors
