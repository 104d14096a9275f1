"""Claims about escape upwards under Langevin noise: after what time, how distributed, with what slope."""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Region
from edgescope.phases import EscapeTimes
from edgescope.studies.phases.intervals import exponent, mean_time, slope, time_ratio, with_rows
from edgescope.studies.phases.readings import KRAMERS, REPLICATION, Level, coldest, escapes, levels_of
from edgescope.studies.selection import Item, tagged, whole
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, Open, TestedClaim, claim
from edgescope.theory.deep_linear import Mode

COLD = 4
"""So many coldest levels give a network's slope: warmer ones curve, since entropy counts there."""

SAME = 0.0014
"""The temperature at which networks of different width are compared."""

CENSORED = "Replicas that did not escape count with the time that they were watched."


def mode_of(run: StudyRun) -> Mode:
    """The mode that escapes, in closed form."""
    return Mode(3, run.record.config["signal"])


def barrier_of(run: StudyRun) -> float:
    """The height that it has to rise, in closed form."""
    return float(mode_of(run).barrier_up(run.record.config["decay"]))


@claim(
    "phases.kramers-time",
    sentence="Chains under Langevin noise escape after the time of Kramers and Langer",
    source=KRAMERS,
    quantity="mean time of escape / closed form",
    region=(0.85, 1.25), origin="ours: corrections of the order of T over the barrier, and of the learning rate",
    each=escapes(series="chain").expand(
        lambda run: [Item(f"T = {level.temperature:g}", (level, run)) for level in levels_of(run)]
    ),
    status="derived", figure="langevin",
    how=f"Chains of three scalars, signal 1, decay 0.3; by the likelihood of exponential times. {CENSORED}",
)  # fmt: skip
def kramers_time(level: tuple[Level, StudyRun]) -> Answer:
    one, run = level
    theory = float(mode_of(run).kramers_time(run.record.config["decay"], one.temperature))
    return with_rows(mean_time(one.times, theory), {"closed form": theory})


@claim(
    "phases.arrhenius-slope",
    sentence="The logarithm of the escape time of chains rises with 1/T by the height of the barrier (Arrhenius)",
    source=KRAMERS,
    quantity="slope of ln(mean time) against 1/T, over the barrier",
    region=Region.around(1, 0.05), origin="ours: corrections of the order of T over the barrier",
    each=escapes(series="chain"), status="derived", figure="langevin",
    how="Maximum likelihood of exponential times. The paper adds an entropic prefactor that does not depend on T: such "
    "a factor cannot change a slope, and here none is needed.",
)  # fmt: skip
def arrhenius_slope(run: StudyRun) -> Answer:
    levels, barrier = levels_of(run), barrier_of(run)
    found = slope(levels, barrier)
    if isinstance(found, Open):
        return found
    points = [(one.coldness, math.log(one.times.total / one.times.escapes)) for one in levels if one.times.escapes]
    coldness, means = np.array(points).T
    straight, span = float(np.corrcoef(coldness, means)[0, 1] ** 2), float(np.exp(np.ptp(means)))
    beside = {"barrier": barrier, "R² of a straight line": straight, "longest mean time / shortest": span}
    return Measured(found, beside)


@claim(
    "phases.escape-without-memory",
    sentence="Escape has no memory: cold escape times are distributed exponentially",
    source=KRAMERS,
    quantity="exponent of a Weibull law, at the coldest level with ten escapes or more",
    region=(0.8, 1.25), origin="ours: 1 is an exponential law; what a barrier of only a few T leaves",
    each=tagged(kind="escapes", series=("chain", "cold", "down")).expand(
        lambda run: [Item(f"{run.tags['model']}, {run.tags['noise']}", run)]
    ),
    status="derived", figure="distributions",
    how=f"By likelihood. {CENSORED} Exponents above 1 are a lag before the first escape.",
)  # fmt: skip
def without_memory(run: StudyRun) -> Answer:
    level = coldest(run)
    if level is None:
        return Open("fewer than ten replicas escaped at each level", "longer runs")
    times = level.times
    spread = float(times.times.std() / times.times.mean()) if times.escaped.all() else math.nan
    return with_rows(exponent(times), {"escapes": float(times.escapes), "standard deviation / mean": spread})


def _network_slope(id: str, sentence: str, source: str, melts: bool, origin: str, how: str) -> TestedClaim[StudyRun]:
    """A claim about the slope over the barrier of a chain, or over what entropy leaves of it where that ``melts``."""

    @claim(
        id,
        sentence=sentence,
        source=source,
        quantity=f"slope of ln(mean time) against 1/T, over {'barrier - (h-1) T' if melts else 'barrier of a chain'}",
        region=(0.75, 1.25) if melts else (-math.inf, 1), origin=origin, each=escapes(series="cold"),
        status="ours" if melts else "derived", figure="langevin",
        how="Signals 0.9 and 0.8; the four coldest temperatures at which two replicas or more escaped, T their mean. "
        + how,
    )  # fmt: skip
    def network_slope(run: StudyRun) -> Answer:
        levels = [level for level in levels_of(run) if level.times.escapes >= 2][-COLD:]
        if len(levels) < COLD:
            return Open(f"{len(levels)} levels with two escapes or more, {COLD} needed", "longer runs")
        width, barrier = run.record.config["width"], barrier_of(run)
        left = barrier - (width - 1) * float(np.mean([level.temperature for level in levels]))
        rows = {"barrier of a chain": barrier, "barrier - (h-1) T": left}
        return with_rows(slope(levels, left if melts else barrier), rows)

    return network_slope


entropy_lowers = _network_slope(
    "phases.entropy-lowers-barrier",
    "Networks escape from rank 1 to 2 under Langevin noise, over a barrier that entropy lowers",
    "derived here; the entropic correction of Ersoy and Wiesner 2026 has the other sign", melts=False,
    origin="derived: below the barrier",
    how="The saddle is a manifold that grows with the width, so that it is wider than that of a chain.",
)  # fmt: skip
entropy_slope = _network_slope(
    "phases.entropy-slope",
    "For networks of width h the slope of ln(escape time) against 1/T is the barrier less (h-1) T",
    "a heuristic of ours, from a prefactor of order T^(h-1)", melts=True,
    origin="ours: the accuracy of a heuristic",
    how="Where (h-1) T is as large as half the barrier the heuristic must break down.",
)  # fmt: skip


def _at_same(run: StudyRun) -> tuple[EscapeTimes, float] | None:
    """The times of escape of a network at the common temperature, and the mean time of a chain in closed form."""
    chain = float(mode_of(run).kramers_time(run.record.config["decay"], SAME))
    return next(((one.times, chain) for one in levels_of(run) if math.isclose(one.temperature, SAME)), None)


@claim(
    "phases.networks-faster-than-chains",
    sentence="Networks escape faster than chains",
    source="a prefactor of order T^(h-1), reconstructed",
    quantity=f"mean time of escape of a network / closed form of a chain (T = {SAME})",
    region=(0, 1), origin="derived: faster, by whatever factor", each=escapes(series="cold").map(_at_same),
    status="derived", figure="langevin",
    how="The chain has the same signal, 0.8, and the same decay, 0.25 or 0.28.",
)  # fmt: skip
def faster_than_chains(level: tuple[EscapeTimes, float]) -> Answer:
    times, chain = level
    return with_rows(mean_time(times, chain), {"closed form of a chain": chain})


@claim(
    "phases.wider-is-faster",
    sentence="Relative to chains, wider networks escape faster",
    source="a prefactor of order T^(h-1), reconstructed",
    quantity=f"mean time of escape over that of a chain, of the widest network / of the narrowest (T = {SAME})",
    region=(0, 1), origin="derived: faster, by whatever factor",
    each=whole("widths 10 and 4", kind="escapes", series="cold"), status="derived", figure="langevin",
    how="Each over the closed form of a chain at its own decay.",
)  # fmt: skip
def wider_is_faster(runs: list[StudyRun]) -> Answer:
    found = [level for run in sorted(runs, key=lambda r: r.record.config["width"]) if (level := _at_same(run))]
    if len(found) < 2:
        return Open("only one width escaped at that temperature", "the other width")
    (narrow, narrow_chain), (wide, wide_chain) = found[0], found[-1]
    return time_ratio(wide, narrow, wide_chain / narrow_chain)


@claim(
    "phases.barrier-melted",
    sentence="At decay 0.2 and width 10 entropy has removed the barrier",
    source=REPLICATION,
    quantity="slope of ln(mean time) against 1/T, over the barrier of a chain",
    region=(-math.inf, 1 / 3), origin="ours: a third of the barrier", each=escapes(series="melted"), status="ours",
    how="Temperatures from 0.00065 to 0.0014, at which (h-1) T is as large as the barrier of a chain.",
)  # fmt: skip
def melted(run: StudyRun) -> Answer:
    barrier = barrier_of(run)
    return with_rows(slope(levels_of(run), barrier), {"barrier": barrier})


CLAIMS = (
    kramers_time, arrhenius_slope, without_memory, entropy_lowers, entropy_slope, faster_than_chains, wider_is_faster,
    melted,
)  # fmt: skip
