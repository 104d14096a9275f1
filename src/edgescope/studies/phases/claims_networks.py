"""Claims about paths, and about networks that are not linear: is there a loop, a barrier, a delay?"""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.escape_estimates import slope, with_rows
from edgescope.experiments.phases.escape_levels import levels_of_network
from edgescope.experiments.phases.loops import swept_area, unsettled
from edgescope.experiments.phases.readings import NETWORKS, Piece, pieces_of
from edgescope.experiments.selection import Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

LOOP = 0.1
"""A loop is an area of the norm, over its range and per unit of ln(decay), above this: in ln(decay) 0.1 is a tenth."""


def _paths(run: StudyRun) -> list[Item[tuple[float, float]]]:
    return [
        Item(f"depth {p['depth']:g}, width {p['width']:g}, {way}", (p[found], p[closed]))
        for p in pieces_of(run, "linear path")
        for way, found, closed in (("up", "height", "up"), ("down", "back", "down"))
    ]


@stated_claim("phases.path-height", each=tagged(kind="paths").expand(_paths))
def path_height(heights: tuple[float, float]) -> Answer:
    return Measured(Estimate.exact(heights[0] / heights[1]), {"height": heights[0], "closed form": heights[1]})


@stated_claim("phases.networks-have-loops", each=NETWORKS)
def have_loops(p: Piece) -> Answer:
    beside = {f"area of the {name}": p[f"area/{name}"] for name in ("norm", "rank", "loss")}
    beside |= {"share of decays at which it settled": p["settled"]}
    if p["area/norm"] > LOOP and (why := unsettled(p)):
        return Open(why, "more steps at each decay", p["area/norm"], beside)
    return Measured(swept_area(p, "norm"), beside)


@stated_claim("phases.rank-falls-at-once", each=NETWORKS)
def rank_falls(p: Piece) -> Answer:
    names = {"jumps/rank": "jumps of the rank", "at/rank": "largest at decay"}
    beside = {name: p[key] for key, name in names.items() if key in p.values}
    return Measured(Estimate.exact(p.values.get("largest/rank", 0.0)), beside)


@stated_claim("phases.barrier-between-ways", each=NETWORKS)
def barrier_between(p: Piece) -> Answer:
    decay, height, back, error = (float(p.array(name)[0]) for name in ("path decays", "height", "back", "error"))
    beside = {"decay": decay, "height": height, "from the other state": back, "error": error}
    if math.isnan(height):
        return Open("the path had not converged", "more steps of the path", beside={"decay": decay, "error": error})
    lower = min(height, back)
    return Measured(Estimate.exact(lower / max(error, np.finfo(float).tiny)), beside)


@stated_claim("phases.delay-follows-barrier", each=NETWORKS)
def delay_follows(p: Piece) -> Answer:
    levels = levels_of_network(p)
    if not levels:
        return Open("no path out of the trap had converged", "more steps of the path")
    beside: dict[str, float] = {}
    for k, level in enumerate(levels, start=1):
        escaped = {f"escaped of {len(level.times.times)} ({k})": float(level.times.escapes)}
        beside |= {f"barrier {k} / T": level.coldness} | escaped
    return with_rows(slope(levels), beside)


CLAIMS = (path_height, have_loops, rank_falls, barrier_between, delay_follows)
