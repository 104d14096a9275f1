"""Claims about escape upwards under Langevin noise: after what time, how distributed, with what slope."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.escape_estimates import exponent, mean_time, slope, time_ratio, with_rows
from edgescope.experiments.phases.escape_levels import Level, coldest, escapes, levels_of
from edgescope.experiments.selection import Item, tagged, whole
from edgescope.experiments.study_run import StudyRun
from edgescope.phases import EscapeTimes
from edgescope.studies.stated_claim import stated_claim
from edgescope.theory.deep_linear import Mode

COLD = 4
"""So many coldest levels give a network's slope: warmer ones curve, since entropy counts there."""

SAME = 0.0014
"""The temperature at which networks of different width are compared."""


def mode_of(run: StudyRun) -> Mode:
    """The mode that escapes, in closed form."""
    return Mode(3, run.record.config["signal"])


def barrier_of(run: StudyRun) -> float:
    """The height that it has to rise, in closed form."""
    return float(mode_of(run).barrier_up(run.record.config["decay"]))


@stated_claim(
    "phases.kramers-time",
    each=escapes(series="chain").expand(
        lambda run: [Item(f"T = {level.temperature:g}", (level, run)) for level in levels_of(run)]
    ),
)
def kramers_time(level: tuple[Level, StudyRun]) -> Answer:
    one, run = level
    theory = float(mode_of(run).kramers_time(run.record.config["decay"], one.temperature))
    return with_rows(mean_time(one.times, theory), {"closed form": theory})


@stated_claim("phases.arrhenius-slope", each=escapes(series="chain"))
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


@stated_claim(
    "phases.escape-without-memory",
    each=tagged(kind="escapes", series=("chain", "cold", "down")).expand(
        lambda run: [Item(f"{run.tags['model']}, {run.tags['noise']}", run)]
    ),
)
def without_memory(run: StudyRun) -> Answer:
    level = coldest(run)
    if level is None:
        return Open("fewer than ten replicas escaped at each level", "longer runs")
    times = level.times
    spread = float(times.times.std() / times.times.mean()) if times.escaped.all() else math.nan
    return with_rows(exponent(times), {"escapes": float(times.escapes), "standard deviation / mean": spread})


def _network_slope(*, melts: bool) -> Callable[[StudyRun], Answer]:
    """The slope over the barrier of a chain, or over what entropy leaves of it where that ``melts``."""

    def network_slope(run: StudyRun) -> Answer:
        levels = [level for level in levels_of(run) if level.times.escapes >= 2][-COLD:]
        if len(levels) < COLD:
            return Open(f"{len(levels)} levels with two escapes or more, {COLD} needed", "longer runs")
        width, barrier = run.record.config["width"], barrier_of(run)
        left = barrier - (width - 1) * float(np.mean([level.temperature for level in levels]))
        rows = {"barrier of a chain": barrier, "barrier - (h-1) T": left}
        return with_rows(slope(levels, left if melts else barrier), rows)

    return network_slope


entropy_lowers = stated_claim("phases.entropy-lowers-barrier", each=escapes(series="cold"))(_network_slope(melts=False))
entropy_slope = stated_claim("phases.entropy-slope", each=escapes(series="cold"))(_network_slope(melts=True))


def _at_same(run: StudyRun) -> tuple[EscapeTimes, float] | None:
    """The times of escape of a network at the common temperature, and the mean time of a chain in closed form."""
    chain = float(mode_of(run).kramers_time(run.record.config["decay"], SAME))
    return next(((one.times, chain) for one in levels_of(run) if math.isclose(one.temperature, SAME)), None)


@stated_claim("phases.networks-faster-than-chains", each=escapes(series="cold").map(_at_same))
def faster_than_chains(level: tuple[EscapeTimes, float]) -> Answer:
    times, chain = level
    return with_rows(mean_time(times, chain), {"closed form of a chain": chain})


@stated_claim("phases.wider-is-faster", each=whole("widths 10 and 4", kind="escapes", series="cold"))
def wider_is_faster(runs: list[StudyRun]) -> Answer:
    found = [level for run in sorted(runs, key=lambda r: r.record.config["width"]) if (level := _at_same(run))]
    if len(found) < 2:
        return Open("only one width escaped at that temperature", "the other width")
    (narrow, narrow_chain), (wide, wide_chain) = found[0], found[-1]
    return time_ratio(wide, narrow, wide_chain / narrow_chain)


@stated_claim("phases.barrier-melted", each=escapes(series="melted"))
def melted(run: StudyRun) -> Answer:
    barrier = barrier_of(run)
    return with_rows(slope(levels_of(run), barrier), {"barrier": barrier})


CLAIMS = (
    kramers_time, arrhenius_slope, without_memory, entropy_lowers, entropy_slope, faster_than_chains, wider_is_faster,
    melted,
)  # fmt: skip
