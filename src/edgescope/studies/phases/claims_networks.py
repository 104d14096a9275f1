"""Claims about paths, and about networks that are not linear: is there a loop, a barrier, a delay?"""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Region
from edgescope.phases import EscapeTimes
from edgescope.statistics.estimate import Estimate
from edgescope.studies.phases.intervals import slope, with_rows
from edgescope.studies.phases.readings import THEORY, Level, Piece, each_piece, pieces_of
from edgescope.studies.selection import Item, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, Open, claim

LOOP = 0.1
"""A loop is an area of the norm, over its range and per unit of ln(decay), above this: in ln(decay) 0.1 is a tenth."""

SETTLED = 0.5
"""Share of the decays at which a sweep has to settle before its loop counts."""

BEYOND = "a question beyond the paper"
NETWORKS = each_piece("network", lambda p: p.note, kind="network")


def _paths(run: StudyRun) -> list[Item[tuple[float, float]]]:
    return [
        Item(f"depth {p['depth']:g}, width {p['width']:g}, {way}", (p[found], p[closed]))
        for p in pieces_of(run, "linear path")
        for way, found, closed in (("up", "height", "up"), ("down", "back", "down"))
    ]


@claim(
    "phases.path-height",
    sentence="The path found between two states of a deep linear network has the height of the closed form",
    source=THEORY,
    quantity="height of the path / closed form",
    region=Region.around(1, 0.02), origin="ours: the tolerance of the search",
    each=tagged(kind="paths").expand(_paths), status="derived",
    how="A nudged elastic band between ends that descent found from random weights.",
)  # fmt: skip
def path_height(heights: tuple[float, float]) -> Answer:
    return Measured(Estimate.exact(heights[0] / heights[1]), {"height": heights[0], "closed form": heights[1]})


def swept_area(p: Piece, name: str) -> Estimate:
    """The area of a loop of one sweep. Its error is by how much it changes without every other decay."""
    decays, up, down = p.array("decays"), p.array(f"up/{name}"), p.array(f"down/{name}")
    gap, reach = np.abs(up - down), float(np.ptp(np.concatenate([up, down]))) or 1.0
    half = np.unique([*range(0, len(decays), 2), len(decays) - 1])
    fine, coarse = (float(np.trapezoid(gap[at], np.log(decays[at]))) / reach for at in (slice(None), half))
    return Estimate.single(fine, fine - coarse)


def unsettled(p: Piece) -> str:
    """Why the loop of a sweep does not count; empty where it does."""
    return f"settled at {p['settled']:.0%} of the decays, {SETTLED:.0%} needed" if p["settled"] < SETTLED else ""


@claim(
    "phases.networks-have-loops",
    sentence="Networks that are not linear have a hysteresis loop in weight decay",
    source=BEYOND,
    quantity="area between both ways of the norm over ln(decay) / range of the norm",
    region=(LOOP, math.inf), origin="ours: a tenth of a unit of ln(decay)", each=NETWORKS, status="ours",
    figure="networks",
    how="Full-batch descent with momentum, each decay from where the last ended, jitter of 0.001 at each. What has not "
    "settled within its steps widens a loop too, so that the loop of such a sweep decides nothing.",
)  # fmt: skip
def have_loops(p: Piece) -> Answer:
    beside = {f"area of the {name}": p[f"area/{name}"] for name in ("norm", "rank", "loss")}
    beside |= {"share of decays at which it settled": p["settled"]}
    if p["area/norm"] > LOOP and (why := unsettled(p)):
        return Open(why, "more steps at each decay", p["area/norm"], beside)
    return Measured(swept_area(p, "norm"), beside)


@claim(
    "phases.rank-falls-at-once",
    sentence="The rank of networks that are not linear falls in one jump, as at a first-order transition",
    source=BEYOND,
    quantity="largest change of the rank between neighbouring decays / range of the rank",
    region=(0.5, 1), origin="ours: more than half of the rank at once", each=NETWORKS, status="ours",
    figure="networks",
    how="Rank of the outputs over the data, singular values above 5% of the first at the lowest decay. Where something "
    "changed much, decays between two neighbours were looked at too. Said of the sweep of each network, not of others.",
)  # fmt: skip
def rank_falls(p: Piece) -> Answer:
    names = {"jumps/rank": "jumps of the rank", "at/rank": "largest at decay"}
    beside = {name: p[key] for key, name in names.items() if key in p.values}
    return Measured(Estimate.exact(p.values.get("largest/rank", 0.0)), beside)


@claim(
    "phases.barrier-between-ways",
    sentence="In networks that are not linear, a barrier separates the two states at the highest decay of the loop",
    source=BEYOND,
    quantity="height of the lowest path above the higher state / error of the height",
    region=(2, math.inf), origin="ours: twice the error of the path", each=NETWORKS, status="ours",
    how="From the state on the way down towards that on the way up, at the highest decay where the gap of their norms "
    "is a quarter of the widest; the loss has its decay in it. Zero from one end: it was not trapped. A path that had "
    "not converged does not count.",
)  # fmt: skip
def barrier_between(p: Piece) -> Answer:
    decay, height, back, error = (float(p.array(name)[0]) for name in ("path decays", "height", "back", "error"))
    beside = {"decay": decay, "height": height, "from the other state": back, "error": error}
    if math.isnan(height):
        return Open("the path had not converged", "more steps of the path", beside={"decay": decay, "error": error})
    lower = min(height, back)
    return Measured(Estimate.exact(lower / max(error, np.finfo(float).tiny)), beside)


def escapes_at(p: Piece) -> list[Level]:
    """Escapes of a network, with barrier/T as their coldness; none where no barrier was found."""
    temperature, rows = p["temperature"], zip(p.array("height"), p.array("times"), p.array("escaped"), strict=False)
    return [
        Level(float(height) / temperature, math.nan, math.nan, EscapeTimes(times, escaped > 0))
        for height, times, escaped in rows
        if temperature > 0 and np.isfinite(height)
    ]


@claim(
    "phases.delay-follows-barrier",
    sentence="Under Langevin noise, networks that are not linear stay trapped the longer the higher the barrier",
    source=f"{BEYOND}; Kramers' law has the slope 1",
    quantity="slope of ln(mean time) against barrier/T",
    region=(0, math.inf), origin="ours: any growth", each=NETWORKS, status="ours", figure="network-delays",
    how="Full-batch Langevin descent from the lower state until the loss is midway to the other, at three decays up to "
    "the end of the loop, one temperature for all: the middle barrier over width + 4, so that noise does not melt it. "
    "Runs cut off count with the time they were watched.",
)  # fmt: skip
def delay_follows(p: Piece) -> Answer:
    levels = escapes_at(p)
    if not levels:
        return Open("no path out of the trap had converged", "more steps of the path")
    beside: dict[str, float] = {}
    for k, level in enumerate(levels, start=1):
        escaped = {f"escaped of {len(level.times.times)} ({k})": float(level.times.escapes)}
        beside |= {f"barrier {k} / T": level.coldness} | escaped
    return with_rows(slope(levels), beside)


CLAIMS = (path_height, have_loops, rank_falls, barrier_between, delay_follows)
