"""Sweeps of whole networks in weight decay, up and down: how they are recorded, and what is read of them."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgescope.experiments.phases.readings import Piece
from edgescope.phases import Scan
from edgescope.statistics.estimate import Estimate

SETTLED: Final = 0.5
"""Share of the decays at which a sweep has to settle before its loop counts."""


def both_ways(found: Scan) -> dict[str, np.ndarray]:
    """The arrays of a record: "decays", and "up/NAME" and "down/NAME" of each order parameter over them."""
    ways = {"up": found.up, "down": found.down}
    return {"decays": found.decays} | {f"{way}/{name}": v for way, row in ways.items() for name, v in row.items()}


def settled_share(found: Scan) -> float:
    """The share of the decays, of both ways, at which the network had settled."""
    return float(np.mean([rows.mean() for rows in found.settled.values()]))


def unsettled(p: Piece) -> str:
    """Why the loop of a recorded sweep does not count; empty where it does."""
    return f"settled at {p['settled']:.0%} of the decays, {SETTLED:.0%} needed" if p["settled"] < SETTLED else ""


def swept_area(p: Piece, name: str) -> Estimate:
    """The area of a recorded loop over ln(decay), in units of the range of the order parameter.

    Its error is by how much it changes without every other decay.
    """
    decays, up, down = p.array("decays"), p.array(f"up/{name}"), p.array(f"down/{name}")
    gap, reach = np.abs(up - down), float(np.ptp(np.concatenate([up, down]))) or 1.0
    half = np.unique([*range(0, len(decays), 2), len(decays) - 1])
    fine, coarse = (float(np.trapezoid(gap[at], np.log(decays[at]))) / reach for at in (slice(None), half))
    return Estimate.single(fine, fine - coarse)


def points(p: Piece, name: str) -> list[tuple[str, float, float]]:
    """Way, decay and order parameter of a recorded sweep."""
    return [
        (way, float(decay), float(value))
        for way in ("up", "down")
        for decay, value in zip(p.array("decays"), p.array(f"{way}/{name}"), strict=True)
    ]
