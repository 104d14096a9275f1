"""Learning coefficients over weight decay, as a sweep recorded them: the jumps, and what lies between two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from edgescope.claims import Open
from edgescope.experiments.phases.coefficient_sweep import OWN_OUTPUTS, WITH_DECAY, WITHOUT_DECAY
from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate


def coefficient(p: Piece) -> Estimate | Open:
    """The coefficient at one point; open where there is none, or where its weights are no minimum of the loss."""
    if p.note or math.isnan(p["value"]):
        return Open(f"decay {p['decay']:.3g}: {p.note or 'not measured'}", value=p["value"])
    return Estimate(p["value"], p["low"], p["high"])


@dataclass(frozen=True)
class LostMode:
    """A mode that is lost on the way up: the points of one loss ``with_it``, and the next one, ``after``."""

    with_it: list[Piece]
    after: Piece

    @property
    def ranks(self) -> str:
        """The rank with the mode, and the one after it is lost."""
        return f"rank {self.with_it[-1]['rank']:g} to {self.after['rank']:g}"

    @property
    def largest_change(self) -> Estimate | Open:
        """The largest change between neighbouring decays with the mode; open where one of them is not known."""
        changes = [change(a, b) for a, b in pairwise(self.with_it)]
        known = [one for one in changes if isinstance(one, Estimate)]
        if len(known) < len(changes):
            return next(one for one in changes if isinstance(one, Open))
        return max(known, key=lambda one: one.value) if known else Open("a single decay with the mode")

    def strength(self, p: Piece) -> float:
        """The strength at a point of the mode that is lost."""
        return p[f"strength/{p['rank']:g}"]


@dataclass(frozen=True)
class BothWays:
    """The lowest decay of a sweep, on the way up and down."""

    up: Piece
    down: Piece


def change(a: Piece, b: Piece) -> Estimate | Open:
    """By how much the coefficient differs between two points, without sign."""
    first, second = coefficient(a), coefficient(b)
    if isinstance(first, Open) or isinstance(second, Open):
        return first if isinstance(first, Open) else second
    size, error = abs(second.value - first.value), math.hypot(first.half_width, second.half_width)
    return Estimate(size, max(size - error, 0.0), size + error)


def _points(run: StudyRun, loss: str, down: bool) -> list[Piece]:
    return sorted((p for p in pieces_of(run, loss) if bool(p["down"]) == down), key=lambda p: p["decay"])


def _lost(run: StudyRun) -> list[Item[LostMode]]:
    found = []
    for loss in (WITH_DECAY, OWN_OUTPUTS):
        points = _points(run, loss, down=False)
        for last, after in pairwise(points):
            if after["rank"] < last["rank"]:
                mode = LostMode([p for p in points if p["rank"] == last["rank"]], after)
                found.append(Item(f"{run.tags['network']}, {loss}, {mode.ranks}", mode, {"loss": loss}))
    return found


def _beside(run: StudyRun, loss: str) -> list[Item[Piece]]:
    return [
        Item(f"{run.tags['network']}, {item.value.ranks}, {place}", p)
        for item in _lost(run)
        if item.factors["loss"] == loss
        for place, p in (("before", item.value.with_it[-1]), ("after", item.value.after))
    ]


def _both_ways(run: StudyRun) -> list[Item[BothWays]]:
    found = []
    for loss in (WITH_DECAY, OWN_OUTPUTS):
        up, down = (_points(run, loss, way) for way in (False, True))
        if up and down:
            found.append(Item(f"{run.tags['network']}, {loss}", BothWays(up[0], down[0])))
    return found


def _without(run: StudyRun) -> list[Item[Piece]]:
    points = _points(run, WITHOUT_DECAY, down=False)
    return [Item(f"{run.tags['network']}, decay {p['decay']:.3g}", p) for p in points]


SWEPT = tagged(kind="coefficients")
LOST_MODES = SWEPT.expand(_lost)
"""Every mode that is lost on the way up, for the loss with decay and for that of the own outputs."""

BOTH_WAYS = SWEPT.expand(_both_ways)
"""The lowest decay, up and down, of the same two losses."""

WITHOUT = SWEPT.expand(_without)
"""The points at which the loss without decay was sampled."""


def beside_lost_modes(loss: str) -> CaseSelection[Piece]:
    """The last point before and the first after each lost mode, of one loss."""
    return SWEPT.expand(lambda run: _beside(run, loss))


def way_points(run: StudyRun, loss: str) -> list[tuple[str, Piece]]:
    """All points of one loss, each with its way, "up" or "down"."""
    return [("down" if p["down"] else "up", p) for way in (False, True) for p in _points(run, loss, way)]
