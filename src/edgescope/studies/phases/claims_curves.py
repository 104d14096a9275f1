"""Claims about learning curves: plateaus without noise, the delayed jump on few samples, stages."""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.escape_estimates import middle, with_rows
from edgescope.experiments.phases.readings import Piece, each_piece, pieces_of
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import proportion, sample_mean
from edgescope.studies.stated_claim import stated_claim


@stated_claim("phases.dwell-time", each=each_piece("dwell", lambda p: "chain of 3, signal 1", kind="dwell"))
def dwell_time(p: Piece) -> Answer:
    beyond, time = p.array("beyond"), p.array("time")
    beside = {f"time, {b:g} beyond": float(t) for b, t in zip(beyond, time, strict=True)}
    if not np.isfinite(time).all():
        return Open("the mode was not lost in time", "more steps", beside=beside)
    return Measured(Estimate.exact(float(np.polyfit(np.log(beyond), np.log(time), 1)[0])), beside)


def _plateaus(run: StudyRun) -> list[Item[tuple[float, list[Piece]]]]:
    """Starts above the saddle up to twice as high: the ratio κ, and the plateaus from the smallest decay on."""
    found = sorted(pieces_of(run, "plateau"), key=lambda p: p["decay"])
    ratios = found[0].array("ratio") if found else ()
    return [Item(f"κ = {ratio:g}", (float(ratio), found)) for ratio in ratios if 1 < ratio <= 2]


@stated_claim("phases.plateau-without-noise", each=tagged(kind="plateau").expand(_plateaus))
def plateau(start: tuple[float, list[Piece]]) -> Answer:
    ratio, found = start
    over = {}
    for p in found:
        at = int(np.argmin(np.abs(p.array("ratio") - ratio)))
        over[f"at decay {p['decay']:g}"] = float(p.array("time")[at] / p.array("theory")[at])
    return Measured(Estimate.exact(next(iter(over.values()))), over)


@stated_claim(
    "phases.plateau-never-below", each=each_piece("plateau", lambda p: f"decay {p['decay']:g}", kind="plateau")
)
def never_below(p: Piece) -> Estimate:
    return Estimate.exact(float(np.isfinite(p.array("time")[p.array("ratio") <= 1]).sum()))


def _delays(shortest: float, longest: float) -> CaseSelection[np.ndarray]:
    """The delays of all draws, without noise, after traps of so many steps."""

    def delays(run: StudyRun) -> list[Item[np.ndarray]]:
        found = [p for p in pieces_of(run, "sparse") if not p["temperature"] and shortest <= p["held"] <= longest]
        return [Item(f"trap of {p['held']:g} steps", p.array("delays")) for p in found]

    return tagged(kind="sparse").expand(delays)


def share_that_jumped(delays: np.ndarray) -> Answer:
    ends = delays[np.isfinite(delays)]
    beside = {"jumped": float(len(ends)), "of": float(len(delays))}
    if len(ends):
        spread = (np.median(ends), ends.min(), ends.max())
        beside |= dict(zip(("median delay", "shortest", "longest"), map(float, spread), strict=True))
    return Measured(proportion(len(ends), len(delays)), beside)


jump = stated_claim("phases.jump-without-noise", each=_delays(0, 300))(share_that_jumped)
no_jump = stated_claim("phases.no-jump-after-long-traps", each=_delays(350, math.inf))(share_that_jumped)


@stated_claim(
    "phases.jump-by-noise",
    each=each_piece("sparse", lambda p: f"decay {p['decay']:g}" * bool(p["temperature"]), kind="sparse"),
)
def jump_by_noise(p: Piece) -> Answer:
    delays, at, losses = (p.array(key) for key in ("delays", "at", "losses"))
    went = np.isfinite(delays)
    rows = [
        np.concatenate([loss[:, (at > 1000) & (at < delay)].mean(1), loss[:, at > delay + 3000].mean(1)])
        for delay, loss in zip(delays, losses, strict=True)
        if 3000 < delay < at[-1] - 6000
    ]
    beside = {"jumped": float(went.sum()), "of": float(len(delays))}
    beside |= {"median delay": float(np.median(delays[went]))} if went.any() else {}
    if not rows:
        return Open("no draw jumped with a plateau before and after", "longer runs", beside=beside)
    train, test, train_after, test_after = np.array(rows).T
    beside |= {"train loss after / before": float((train_after / train).mean()), "test loss before": float(test.mean())}
    return Measured(sample_mean(test_after / test, "draws"), beside | {"test loss after": float(test_after.mean())})


STAGES = each_piece("staged", lambda p: "signals 0.9 and 0.6", kind="staged")


@stated_claim("phases.stages-in-order", each=STAGES)
def in_order(p: Piece) -> Answer:
    first = p.array("first")
    return proportion(int((first[:, 0] < first[:, 1]).sum()), len(first), "networks")


@stated_claim("phases.plateau-between-stages", each=STAGES)
def plateau_between(p: Piece) -> Answer:
    first = p.array("first")[np.isfinite(p.array("first")[:, 0])]
    if not len(first):
        return Open("no network made the first jump", "longer runs")
    names = ("median step of the first jump", "of the second")
    steps = {name: float(np.median(first[:, k])) for k, name in enumerate(names)}
    return with_rows(middle(first[:, 1] / first[:, 0], "networks"), steps)


CLAIMS = (dwell_time, plateau, never_below, jump, no_jump, jump_by_noise, in_order, plateau_between)
