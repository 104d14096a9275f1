"""Claims about transitions: where modes are lost as weight decay rises, and whether they come back as it falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.claims import Region, Status
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.phases.intervals import middle
from edgescope.studies.phases.readings import ERSOY, REPLICATION, THEORY, Piece, pieces_of
from edgescope.studies.phases.sweeps import FASTER, LOWEST, NOISY, SIGNALS
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, TestedClaim, claim
from edgescope.theory.deep_linear import Mode

OBSERVED = {"rank 1": 0.36, "rank 0": 0.42}
"""The decay at which the paper's rank falls to this one."""


@dataclass(frozen=True)
class SweptMode:
    """One mode of a sweep up and down, and the other sweeps of the same task by name."""

    signal: float
    sweep: Piece
    others: dict[str, Piece]

    @property
    def mode(self) -> Mode:
        """The mode in closed form."""
        return Mode(int(self.sweep["depth"]), self.signal)

    def of(self, what: str, sweep: str = "") -> float:
        """What was found of this mode, in this sweep or in another; NaN where it was not found."""
        return (self.others[sweep] if sweep else self.sweep)[f"{what}/{self.signal:g}"]


def modes_of(*sweeps: str, signals: tuple[float, ...] = SIGNALS) -> Selection[SweptMode]:
    """The modes of these sweeps, one case each."""

    def modes(run: StudyRun) -> list[Item[SweptMode]]:
        found = {p.note: p for p in pieces_of(run, "sweep")}
        return [
            Item(f"depth {depth}, signal {signal:g}", SweptMode(signal, found[name], found), {"depth": depth})
            for name in sweeps
            if name in found and (depth := f"{found[name]['depth']:g}")
            for signal in signals
        ]

    return tagged(kind="sweeps").expand(modes)


@claim(
    "phases.modes-end-at-the-spinodal",
    sentence="As weight decay rises, learned modes of depth 3 and more end at the upper spinodal of their signal",
    source=f"{ERSOY}, claim 1; critical decays derived anew",
    quantity="(critical decay - last decay at which the mode was learned) / step of the sweep",
    region=(-1, 2), origin="derived: from 0 to 1 is the resolution of the sweep; one step beside it is allowed",
    each=modes_of("descent", "descent, depth 4"), status="derived", figure="loops",
    how="Gradient descent on the population loss, decay raised in even steps, each from where the last one ended. Past "
    "the spinodal a network dwells the longer the closer it is, so that a sweep loses its mode up to a step late.",
)  # fmt: skip
def spinodal(mode: SweptMode) -> Answer:
    last, lost, theory = mode.of("collapse"), mode.of("next"), mode.mode.critical_decay()
    place = Estimate.exact((theory - last) / (lost - last))
    return Measured(place, {"last learned at decay": last, "lost at decay": lost, "critical decay": theory})


def _falls(run: StudyRun) -> list[Item[tuple[str, np.ndarray]]]:
    found = pieces_of(run, "samples")
    decays = {rank: np.array([p[rank] for p in found if rank in p.values]) for rank in OBSERVED}
    return [Item(f"fall to {rank}", (rank, values)) for rank, values in decays.items()]


def _samples(id: str, sentence: str, expected: str, decays: dict[str, float], status: Status) -> TestedClaim[Any]:
    @claim(
        id,
        sentence=f"On 512 samples with signals 0.9 and 0.8 the rank falls {sentence}",
        source=f"{ERSOY}, claim 1; critical decays derived anew",
        quantity=f"median over draws of the decay at which the rank falls, less {expected}",
        region=(-0.03, 0.03), origin="ours: what 512 samples move the transition by, from one draw to another",
        each=tagged(kind="samples").expand(_falls), status=status, names_cases=True,
        how="Draws of the samples, each swept in steps of 0.01; the paper has one draw.",
    )  # fmt: skip
    def less_expected(fall: tuple[str, np.ndarray]) -> Answer:
        rank, found = fall
        ends = np.quantile(found, [0.1, 0.9]).tolist() if found.size else (math.nan, math.nan)
        beside = {"10% of the draws fall by": ends[0], "90% by": ends[1], "expected": decays[rank]}
        return Measured(middle(found - decays[rank], "draws"), beside)

    return less_expected


observed = _samples(
    "phases.samples-observed-decays", "near decay 0.36 and 0.42", "the paper's", OBSERVED, "from the paper"
)
as_in_population = _samples(
    "phases.samples-critical-decays", "at the critical decays of the population", "the critical decay",
    {rank: float(Mode(3, signal).critical_decay()) for rank, signal in (("rank 1", 0.8), ("rank 0", 0.9))},
    "derived",
)  # fmt: skip


@claim(
    "phases.loop-area",
    sentence="Sweeps up and down enclose hysteresis loops of the predicted area",
    source=THEORY,
    quantity="area of the loop / closed form",
    region=Region.around(1, 0.03),
    origin="derived: 0.338303 s^(7/3) at depth 3, less the strip below the lowest decay; 3% for steps of the sweep",
    each=modes_of("descent"), status="derived", figure="loops",
    how="By trapezoids over the sweep, without noise, so that the way down stays at zero.",
)  # fmt: skip
def loop_area(mode: SweptMode) -> Answer:
    theory = mode.mode.loop_area(LOWEST)
    return Measured(Estimate.exact(mode.of("area") / theory), {"area": mode.of("area"), "closed form": theory})


@claim(
    "phases.two-layers-no-loop",
    sentence="Two layers have no hysteresis: their transition is of second order",
    source=f"{ERSOY}; Ziyin and Ueda 2022 (arXiv 2205.12510)",
    quantity="area of the loop of two layers / that of three layers",
    region=(-0.01, 0.01), origin="ours: a hundredth, for what a sweep of finite speed leaves",
    each=modes_of("jitter, depth 2", signals=(1.0,)), status="derived", figure="loops",
    how="Jitter of 0.01 is added to the weights at each decay, since weights that are exactly zero never move.",
)  # fmt: skip
def second_order(mode: SweptMode) -> Answer:
    three = Mode(3, mode.signal).loop_area(LOWEST)
    beside = {"area": mode.of("area"), "area with three layers": three, "learned again at decay": mode.of("relearned")}
    return Measured(Estimate.exact(mode.of("area") / three), beside)


@claim(
    "phases.descent-never-learns-again",
    sentence="As weight decay falls, gradient descent never learns a lost mode again",
    source=THEORY,
    quantity="decay at which the mode is learned again, 0 for never",
    region=(0, 0), origin="derived: zero is a minimum at every decay from depth 3 on", each=modes_of("descent"),
    status="derived", figure="loops",
    how="Down to decay 0.01. With jitter of 0.01 at each decay a mode comes back when its barrier has nearly gone.",
)  # fmt: skip
def never_again(mode: SweptMode) -> Answer:
    beside = {"with jitter, learned again at decay": mode.of("relearned", "jitter")} if "jitter" in mode.others else {}
    again = mode.of("relearned")
    return Measured(Estimate.exact(0.0 if math.isnan(again) else again), beside)


@claim(
    "phases.langevin-learns-again",
    sentence="As weight decay falls, Langevin noise brings a lost mode back below its coexistence decay, at several "
    "times the decay at which jitter does",
    source=THEORY,
    quantity="decay at which the mode is learned again (T = 0.0003)",
    region=(0.1, Mode(3, 1.0).coexistence_decay()),
    origin="derived above: the coexistence decay; ours below: 0.1, five times the decay at which jitter alone does",
    each=tagged(kind="sweeps").expand(
        lambda run: (
            [Item("signal 1", found)] if (found := [p for p in pieces_of(run, "sweep") if p.note == NOISY]) else []
        )
    ),
    status="derived", figure="loops",
    how="Signal 1, the strongest of four; mean over sweeps, 0 for one in which it was never learned again.",
)  # fmt: skip
def langevin_again(sweeps: list[Piece]) -> Answer:
    return sample_mean([p.values.get("relearned/1", 0.0) for p in sweeps], "sweeps")


def _noisy_pairs(run: StudyRun) -> list[Item[tuple[Piece, Piece]]]:
    """Sweeps under noise, each with one that is five times as fast."""
    slow, fast = ([p for p in pieces_of(run, "sweep") if p.note == name] for name in (NOISY, FASTER))
    return [Item(f"pair {k}", pair) for k, pair in enumerate(zip(slow, fast, strict=False), start=1)]


@claim(
    "phases.loop-grows-with-rate",
    sentence="Under noise a faster sweep encloses a larger loop",
    source=REPLICATION,
    quantity="(area of a sweep five times as fast - area) / area without noise, summed over four modes",
    region=(0, math.inf), origin="ours: larger, by whatever amount",
    each=tagged(kind="sweeps").expand(_noisy_pairs), status="ours", scope="average", figure="loops",
    how="The mean over pairs of sweeps is judged. A loop under noise is no property of the loss alone.",
)  # fmt: skip
def faster_encloses_more(pair: tuple[Piece, Piece]) -> Answer:
    slow, fast = (sum(p[f"area/{signal:g}"] for signal in SIGNALS) for p in pair)
    excess = (fast - slow) / sum(Mode(3, signal).loop_area(LOWEST) for signal in SIGNALS)
    return Measured(Estimate(excess), {"area": slow, "area of the faster sweep": fast})


CLAIMS = (
    spinodal, observed, as_in_population, loop_area, second_order, never_again, langevin_again, faster_encloses_more,
)  # fmt: skip
