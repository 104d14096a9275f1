"""Claims about transitions: where modes are lost as weight decay rises, and whether they come back as it falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgescope.claims import Answer, Measured
from edgescope.experiments.phases.escape_estimates import middle
from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.phases.sweeps import FASTER, LOWEST, NOISY, SIGNALS
from edgescope.experiments.phases.swept_modes import SweptMode, modes_of
from edgescope.experiments.selection import Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.stated_claim import stated_claim
from edgescope.theory.deep_linear import Mode

OBSERVED = {"rank 1": 0.36, "rank 0": 0.42}
"""The decay at which the paper's rank falls to this one."""

CRITICAL = {rank: float(Mode(3, signal).critical_decay()) for rank, signal in (("rank 1", 0.8), ("rank 0", 0.9))}
"""The critical decay of the mode that is lost then."""


@stated_claim("phases.modes-end-at-the-spinodal", each=modes_of("descent", "descent, depth 4"))
def spinodal(mode: SweptMode) -> Answer:
    last, lost, theory = mode.of("collapse"), mode.of("next"), mode.mode.critical_decay()
    place = Estimate.exact((theory - last) / (lost - last))
    return Measured(place, {"last learned at decay": last, "lost at decay": lost, "critical decay": theory})


def _falls(run: StudyRun) -> list[Item[tuple[str, np.ndarray]]]:
    """The decays at which the rank falls, over draws of the samples: a case for each rank that it falls to."""
    found = pieces_of(run, "samples")
    decays = {rank: np.array([p[rank] for p in found if rank in p.values]) for rank in OBSERVED}
    return [Item(f"fall to {rank}", (rank, values)) for rank, values in decays.items()]


def _less(expected: Mapping[str, float]) -> Callable[[tuple[str, np.ndarray]], Answer]:
    """The median decay at which the rank falls, less the expected one."""

    def less_expected(fall: tuple[str, np.ndarray]) -> Answer:
        rank, found = fall
        ends = np.quantile(found, [0.1, 0.9]).tolist() if found.size else (math.nan, math.nan)
        beside = {"10% of the draws fall by": ends[0], "90% by": ends[1], "expected": expected[rank]}
        return Measured(middle(found - expected[rank], "draws"), beside)

    return less_expected


FALLS = tagged(kind="samples").expand(_falls)
observed = stated_claim("phases.samples-observed-decays", each=FALLS)(_less(OBSERVED))
as_in_population = stated_claim("phases.samples-critical-decays", each=FALLS)(_less(CRITICAL))


@stated_claim("phases.loop-area", each=modes_of("descent"))
def loop_area(mode: SweptMode) -> Answer:
    theory = mode.mode.loop_area(LOWEST)
    return Measured(Estimate.exact(mode.of("area") / theory), {"area": mode.of("area"), "closed form": theory})


@stated_claim("phases.two-layers-no-loop", each=modes_of("jitter, depth 2", signals=(1.0,)))
def second_order(mode: SweptMode) -> Answer:
    three = Mode(3, mode.signal).loop_area(LOWEST)
    beside = {"area": mode.of("area"), "area with three layers": three, "learned again at decay": mode.of("relearned")}
    return Measured(Estimate.exact(mode.of("area") / three), beside)


@stated_claim("phases.descent-never-learns-again", each=modes_of("descent"))
def never_again(mode: SweptMode) -> Answer:
    beside = {"with jitter, learned again at decay": mode.of("relearned", "jitter")} if "jitter" in mode.others else {}
    again = mode.of("relearned")
    return Measured(Estimate.exact(0.0 if math.isnan(again) else again), beside)


def _noisy(run: StudyRun) -> list[Item[list[Piece]]]:
    """All sweeps under noise as one case."""
    found = [p for p in pieces_of(run, "sweep") if p.note == NOISY]
    return [Item("signal 1", found)] if found else []


@stated_claim("phases.langevin-learns-again", each=tagged(kind="sweeps").expand(_noisy))
def langevin_again(sweeps: list[Piece]) -> Answer:
    return sample_mean([p.values.get("relearned/1", 0.0) for p in sweeps], "sweeps")


def _noisy_pairs(run: StudyRun) -> list[Item[tuple[Piece, Piece]]]:
    """Sweeps under noise, each with one that is five times as fast."""
    slow, fast = ([p for p in pieces_of(run, "sweep") if p.note == name] for name in (NOISY, FASTER))
    return [Item(f"pair {k}", pair) for k, pair in enumerate(zip(slow, fast, strict=False), start=1)]


@stated_claim("phases.loop-grows-with-rate", each=tagged(kind="sweeps").expand(_noisy_pairs))
def faster_encloses_more(pair: tuple[Piece, Piece]) -> Answer:
    slow, fast = (sum(p[f"area/{signal:g}"] for signal in SIGNALS) for p in pair)
    excess = (fast - slow) / sum(Mode(3, signal).loop_area(LOWEST) for signal in SIGNALS)
    return Measured(Estimate(excess), {"area": slow, "area of the faster sweep": fast})


CLAIMS = (
    spinodal, observed, as_in_population, loop_area, second_order, never_again, langevin_again, faster_encloses_more,
)  # fmt: skip
