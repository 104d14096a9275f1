"""Claims about the learning coefficient in sweeps of weight decay: does it jump with the rank, or move before it?"""

from __future__ import annotations

import math

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.coefficient_curves import (
    BOTH_WAYS,
    LOST_MODES,
    WITHOUT,
    BothWays,
    LostMode,
    beside_lost_modes,
    change,
    coefficient,
)
from edgescope.experiments.phases.coefficient_sweep import OWN_OUTPUTS, WITH_DECAY
from edgescope.experiments.phases.readings import Piece
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

Beside = dict[str, float | Estimate]

LARGER_N = "the preset full, whose chains are of more samples and longer"


@stated_claim("phases.coefficient-jumps", each=LOST_MODES)
def jumps(mode: LostMode) -> Answer:
    last = mode.with_it[-1]
    here, elsewhere = change(last, mode.after), mode.largest_change
    if isinstance(here, Open) or isinstance(elsewhere, Open):
        return _open(here if isinstance(here, Open) else elsewhere)
    ratio = here.value / elsewhere.value if elsewhere.value else math.inf
    high = here.high / elsewhere.low if elsewhere.low else math.inf
    beside: Beside = {"change where the mode is lost": here, "largest other change": elsewhere}
    if not math.isfinite(ratio):
        return Open("the coefficient does not change at all elsewhere", beside=beside)
    beside |= {"change of the closed form": mode.after["closed"] - last["closed"]}
    return Measured(Estimate(ratio, here.low / elsewhere.high, high), beside)


def _over_closed_form(p: Piece) -> Answer:
    """The coefficient over its closed form."""
    found = coefficient(p)
    if isinstance(found, Open):
        return _open(found)
    beside: Beside = {"coefficient": found, "closed form": p["closed"], "its multiplicity": p["multiplicity"]}
    beside |= {"the sampler on the quadratic at these weights": p["quadratic"]}
    return Measured(found.scaled(1 / p["closed"]), beside)


own_outputs = stated_claim("phases.coefficient-of-own-outputs", each=beside_lost_modes(OWN_OUTPUTS))(_over_closed_form)
with_decay = stated_claim("phases.coefficient-with-decay", each=beside_lost_modes(WITH_DECAY))(_over_closed_form)


@stated_claim("phases.coefficient-moves-first", each=LOST_MODES)
def moves_first(mode: LostMode) -> Answer:
    ends = mode.with_it[0], mode.with_it[-1]
    first, last, after = (coefficient(p) for p in (*ends, mode.after))
    for one in (first, last, after):
        if isinstance(one, Open):
            return _open(one)
    assert isinstance(first, Estimate)
    assert isinstance(last, Estimate)
    assert isinstance(after, Estimate)
    whole = after.value - first.value
    if abs(whole) <= math.hypot(first.half_width, after.half_width):
        return Open("the coefficient does not change by more than its interval", LARGER_N)
    share = (last.value - first.value) / whole
    # What an error of each of the three estimates moves the share by.
    error = math.hypot(last.half_width, share * after.half_width, (1 - share) * first.half_width) / abs(whole)
    fallen = 1 - mode.strength(ends[1]) / mode.strength(ends[0])
    beside: Beside = {"share of the strength of the mode": fallen}
    beside |= {"coefficient at the lowest decay of the rank": first, "before": last, "after": after}
    return Measured(Estimate(share, share - error, share + error), beside)


@stated_claim("phases.coefficient-has-loop", each=BOTH_WAYS)
def has_loop(ways: BothWays) -> Answer:
    apart, up = change(ways.up, ways.down), coefficient(ways.up)
    if isinstance(apart, Open) or isinstance(up, Open):
        return _open(apart if isinstance(apart, Open) else up)
    beside = {"rank on the way up": ways.up["rank"], "rank on the way down": ways.down["rank"]}
    return Measured(apart.scaled(1 / up.value), beside | {"decay": ways.up["decay"]})


@stated_claim("phases.coefficient-without-decay", each=WITHOUT)
def without_decay(p: Piece) -> Answer:
    if math.isnan(p["value"]):
        return Open(p.note or "not measured", LARGER_N)
    found = Estimate(p["value"], p["low"], p["high"])
    beside: Beside = {
        "coefficient": found,
        "closed form": p["closed"],
        "n β times what the loss can fall by": p["above minimum"],
    }
    return Measured(found.scaled(1 / p["closed"]), beside, why=p.note)


def _open(answer: Estimate | Open) -> Open:
    """The reason, with what would decide."""
    assert isinstance(answer, Open)
    return Open(answer.why, LARGER_N, answer.value)


CLAIMS = (jumps, own_outputs, with_decay, moves_first, has_loop, without_decay)
