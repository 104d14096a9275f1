"""Records of learning coefficients along a sweep, made by hand, of which the claims hold or fail."""

from __future__ import annotations

from edgescope.experiments.phases.coefficient_sweep import OWN_OUTPUTS, WITH_DECAY, WITHOUT_DECAY
from edgescope.measures import Reading

CLOSED = {2: 9.0, 1: 6.0, 0: 4.5}
"""Closed forms by rank."""

RIGHT = {2: (12.2, 11.4, 10.6, 9.8, 9.0), 1: (6.6, 6.3, 6.0, 5.7, 5.4), 0: (4.5,)}
"""Coefficients by rank, in the order of their decays: at 4/7 of the way after four even changes, of which the jump is
three times one."""

WRONG = {2: (18.0, 17.0, 18.0, 17.0, 18.0), 1: (17.0, 18.0, 17.0, 18.0, 17.0), 0: (16.0,)}
"""At the start of the way after four changes, of which the jump is one."""


def point(loss: str, decay: float, rank: int, value: float, *, down: bool = False, note: str = "") -> Reading:
    """One reading as the task writes it, with an interval of 0.02 around its value."""
    values = {
        "decay": decay, "down": float(down), "rank": float(rank), "closed": CLOSED[rank], "multiplicity": 1.0,
        "strength/1": 0.9 - decay, "strength/2": 0.5 - decay, "critical/1": 0.52,
        "quadratic": CLOSED[rank], "above minimum": 0.0,
    }  # fmt: skip
    return Reading(loss, values | {"value": value, "low": value - 0.01, "high": value + 0.01}, note=note)


def coefficient_points(right: bool) -> list[Reading]:
    """A sweep over ranks 2, 1 and 0, back to the lowest decay at rank 0; all claims hold of it, or fail."""
    values = RIGHT if right else WRONG
    rising = [(rank, value) for rank in (2, 1, 0) for value in values[rank]]
    found = []
    for loss in (WITH_DECAY, OWN_OUTPUTS):
        found += [point(loss, 0.05 * place, rank, value) for place, (rank, value) in enumerate(rising, start=1)]
        found.append(point(loss, 0.05, 0, 4.5 if right else values[2][0], down=True))
    return [*found, point(WITHOUT_DECAY, 0.3, 2, 9.0 if right else -3.0, note="the loss is not at a minimum")]
