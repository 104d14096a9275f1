"""Claims about the network that learns addition: is its delay that of an escape over a barrier?"""

from __future__ import annotations

import numpy as np
import scipy

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.loops import swept_area, unsettled
from edgescope.experiments.phases.readings import ADDITION, Piece, pieces_of
from edgescope.experiments.selection import Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.studies.phases.claims_networks import LOOP
from edgescope.studies.stated_claim import stated_claim

HIGH = 0.01
"""The share of the loss at its start by which a path has to rise to count as a barrier."""

STEADY = 0.8
"""The share of the loop of a faster sweep that is left of one that has two states."""


def _sweeps(run: StudyRun) -> list[Item[list[Piece]]]:
    """The slow sweep and the faster one as one case."""
    found = pieces_of(run, "addition sweep")
    return [Item("addition", found)] if found else []


@stated_claim("phases.addition-loop", each=tagged(kind="addition").expand(_sweeps))
def addition_loop(sweeps: list[Piece]) -> Answer:
    beside = {
        f"{p.note}: {key.replace('area/', 'area of the ')}": value for p in sweeps for key, value in p.values.items()
    }
    if len(sweeps) < 2:
        return Open("the faster sweep left no record", "that sweep", beside=beside)
    slow, fast = (p["area/test accuracy"] for p in sweeps)
    if slow > LOOP and slow < STEADY * fast:
        return Open(f"{slow / fast:.0%} of the loop of a faster sweep", "slower sweeps", slow, beside)
    if slow > LOOP and (why := unsettled(sweeps[0])):
        return Open(why, "more steps at each decay", slow, beside)
    return Measured(swept_area(sweeps[0], "test accuracy"), beside)


def _by_decay(p: Piece) -> list[Item[dict[str, float]]]:
    columns = {name: p.array(name) for name in ("decay", "delay", "height", "straight", "rise", "start")}
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    return [Item(f"decay {row['decay']:g}", row) for row in rows]


@stated_claim("phases.addition-barrier", each=ADDITION.expand(_by_decay))
def addition_barrier(row: dict[str, float]) -> Answer:
    if not np.isfinite(row["height"]):
        return Open("it did not come to understand", "more steps")
    names = {
        "height": "lowest path",
        "straight": "straight line",
        "rise": "rise of the run",
        "start": "loss at its start",
    }
    return Measured(Estimate.exact(row["height"] / row["start"]), {name: row[key] for key, name in names.items()})


@stated_claim("phases.addition-delay-has-barrier", each=ADDITION)
def delay_has_barrier(p: Piece) -> Answer:
    _, _, heights = _known(p)
    return Measured(Estimate.exact(heights.max()), _delays(p)) if heights.size else Open("no delay ended", "more steps")


@stated_claim("phases.addition-delay-follows-barrier", each=ADDITION)
def delay_follows_barrier(p: Piece) -> Answer:
    _, delays, heights = _known(p)
    if not heights.size or heights.max() < HIGH:
        return Open("there is no barrier for it to follow", "a network with a barrier", beside=_delays(p))
    if heights.size < 4 or min(np.ptp(heights), np.ptp(delays)) == 0:
        return Open(f"{heights.size} decays with a delay, four that differ needed", "more decays", beside=_delays(p))
    found = scipy.stats.pearsonr(heights, np.log(delays))
    low, high = found.confidence_interval(0.95)
    value = float(found.statistic)
    estimate = Estimate(value, min(float(low), value), max(float(high), value), heights.size, "decays")
    return Measured(estimate, _delays(p))


@stated_claim("phases.addition-delay-inverse", each=ADDITION)
def delay_inverse(p: Piece) -> Answer:
    decays, delays, _ = _known(p)
    if len(delays) < 3:
        return Open(f"{len(delays)} decays with a delay, three needed", "more steps", beside=_delays(p))
    found = scipy.stats.linregress(np.log(decays), np.log(delays))
    reach, value = float(scipy.stats.t.ppf(0.975, len(delays) - 2) * found.stderr), float(found.slope)
    return Measured(Estimate(value, value - reach, value + reach, len(delays), "decays"), _delays(p))


def _known(p: Piece) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decays at which the network understood; delays there; and heights over the loss at the start."""
    decays, delays, heights, start = (p.array(name) for name in ("decay", "delay", "height", "start"))
    known = np.isfinite(delays)
    return decays[known], delays[known], heights[known] / start[known]


def _delays(p: Piece) -> dict[str, float]:
    return {f"delay at decay {d:g}": float(t) for d, t in zip(p.array("decay"), p.array("delay"), strict=True)}


CLAIMS = (addition_loop, addition_barrier, delay_has_barrier, delay_follows_barrier, delay_inverse)
