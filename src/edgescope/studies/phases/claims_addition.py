"""Claims about the network that learns addition: is its delay that of an escape over a barrier?"""

from __future__ import annotations

import numpy as np
from scipy import stats

from edgescope.statistics.estimate import Estimate
from edgescope.studies.phases.claims_networks import BEYOND, LOOP, swept_area, unsettled
from edgescope.studies.phases.readings import Piece, each_piece, pieces_of
from edgescope.studies.selection import Item, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, Open, claim

SOURCE = f"{BEYOND}, whose picture of grokking it is"
NETWORK = (
    "Two layers of study `grokking` (32 GELU units, addition modulo 31, half-squared loss, momentum 0.9), full-batch "
    "descent without noise. "
)
DELAYS = each_piece("addition", lambda p: "addition", kind="addition")
HIGH = 0.01
"""The share of the loss at its start by which a path has to rise to count as a barrier."""

STEADY = 0.8
"""The share of the loop of a faster sweep that is left of one that has two states."""


@claim(
    "phases.addition-loop",
    sentence="Swept in weight decay, the network that learns addition has a loop: what it understood it keeps",
    source=BEYOND,
    quantity="area between both ways of the test accuracy over ln(decay) / range of the accuracy",
    region=(LOOP, np.inf), origin="ours: a tenth of a unit of ln(decay)",
    each=tagged(kind="addition").expand(lambda run: [Item("addition", found)] if (found := _sweeps(run)) else []),
    status="ours", figure="addition-loops",
    how=f"{NETWORK}From decays at which it memorises upwards, and down again. A sweep that does not wait as long as "
    "grokking takes shows the delay too: a loop that is below 0.8 of that of a sweep four times as fast is no sign of "
    "two states, nor is a network that was still under way.",
)  # fmt: skip
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


def _sweeps(run: StudyRun) -> list[Piece]:
    return pieces_of(run, "addition sweep")


def _by_decay(p: Piece) -> list[Item[dict[str, float]]]:
    columns = {name: p.array(name) for name in ("decay", "delay", "height", "straight", "rise", "start")}
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    return [Item(f"decay {row['decay']:g}", row) for row in rows]


@claim(
    "phases.addition-barrier",
    sentence="In the network that learns addition, a barrier separates memorising from generalising weights",
    source=SOURCE,
    quantity="rise of the lowest path / loss at its start",
    region=(HIGH, np.inf), origin="ours: a hundredth of the loss", each=DELAYS.expand(_by_decay), status="ours",
    how=f"{NETWORK}From the last state that had learned with a test accuracy below 10% to the last of the run, weight "
    "decay in the loss; first guess: the run itself. No barrier can be higher than the rise of the run, which the edge "
    "of stability allows. Read at nine points of the path.",
)  # fmt: skip
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


@claim(
    "phases.addition-delay-has-barrier",
    sentence="Where the network that learns addition understands late, a barrier delays it",
    source=SOURCE,
    quantity="largest rise of the lowest path over decays / loss at its start",
    region=(HIGH, np.inf), origin="ours: a hundredth of the loss", each=DELAYS, status="ours", figure="addition",
    how=f"{NETWORK}A delay without noise and without a barrier is the time of a way down, as on the plateau of deep "
    "linear chains.",
)  # fmt: skip
def delay_has_barrier(p: Piece) -> Answer:
    _, _, heights = _known(p)
    return Measured(Estimate.exact(heights.max()), _delays(p)) if heights.size else Open("no delay ended", "more steps")


@claim(
    "phases.addition-delay-follows-barrier",
    sentence="The delay of the network that learns addition grows with its barrier",
    source=SOURCE,
    quantity="correlation of ln(delay) and barrier over decays",
    region=(0.8, 1), origin="ours: a clear correlation", each=DELAYS, status="ours", figure="addition",
    how=f"{NETWORK}Delay: steps from when half of the training pairs are learned until half of the others are "
    "understood. The interval is Fisher's.",
)  # fmt: skip
def delay_follows_barrier(p: Piece) -> Answer:
    _, delays, heights = _known(p)
    if not heights.size or heights.max() < HIGH:
        return Open("there is no barrier for it to follow", "a network with a barrier", beside=_delays(p))
    if heights.size < 4 or min(np.ptp(heights), np.ptp(delays)) == 0:
        return Open(f"{heights.size} decays with a delay, four that differ needed", "more decays", beside=_delays(p))
    found = stats.pearsonr(heights, np.log(delays))
    low, high = found.confidence_interval(0.95)
    value = float(found.statistic)
    estimate = Estimate(value, min(float(low), value), max(float(high), value), heights.size, "decays")
    return Measured(estimate, _delays(p))


@claim(
    "phases.addition-delay-inverse",
    sentence="The delay of the network that learns addition is inverse to weight decay",
    source="Liu et al. 2023 (arXiv 2210.01117): t in proportion to 1/decay",
    quantity="slope of ln(delay) against ln(decay)",
    region=(-1.3, -0.7), origin="ours: 0.3 around the paper's -1", each=DELAYS, status="second hand",
    figure="addition",
    how=f"{NETWORK}Their picture: decay carries the weights along a valley of zero training loss to the norm at which "
    "the network generalises. One initialisation and split of the pairs; the interval is that of the regression over "
    "decays.",
)  # fmt: skip
def delay_inverse(p: Piece) -> Answer:
    decays, delays, _ = _known(p)
    if len(delays) < 3:
        return Open(f"{len(delays)} decays with a delay, three needed", "more steps", beside=_delays(p))
    found = stats.linregress(np.log(decays), np.log(delays))
    reach, value = float(stats.t.ppf(0.975, len(delays) - 2) * found.stderr), float(found.slope)
    return Measured(Estimate(value, value - reach, value + reach, len(delays), "decays"), _delays(p))


def _known(p: Piece) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decays at which the network understood; delays there; and heights over the loss at the start."""
    decays, delays, heights, start = (p.array(name) for name in ("decay", "delay", "height", "start"))
    known = np.isfinite(delays)
    return decays[known], delays[known], heights[known] / start[known]


def _delays(p: Piece) -> dict[str, float]:
    return {f"delay at decay {d:g}": float(t) for d, t in zip(p.array("decay"), p.array("delay"), strict=True)}


CLAIMS = (addition_loop, addition_barrier, delay_has_barrier, delay_follows_barrier, delay_inverse)
