"""Claims about learning curves: plateaus without noise, the delayed jump on few samples, stages."""

from __future__ import annotations

import math

import numpy as np

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import proportion, sample_mean
from edgescope.studies.phases.intervals import middle, with_rows
from edgescope.studies.phases.readings import ERSOY, REPLICATION, THEORY, Piece, each_piece, pieces_of
from edgescope.studies.selection import Item, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, Open, TestedClaim, claim


@claim(
    "phases.dwell-time",
    sentence="Past its critical decay a mode lingers, as (decay - critical)^(-1/2)",
    source=REPLICATION,
    quantity="slope of ln(time) against ln(decay - critical decay)",
    region=Region.around(-0.5, 0.05),
    origin="derived: -1/2, as beside every saddle-node; 5% for times that are not infinite",
    each=each_piece("dwell", lambda p: "chain of 3, signal 1", kind="dwell"), status="ours",
    how="A chain of three scalars, from where the learned state ends, until half of its product is lost. So a sweep "
    "finds a transition late unless it waits there.",
)  # fmt: skip
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


@claim(
    "phases.plateau-without-noise",
    sentence="A plateau needs no noise: from w0 = κ decay/signal, gradient descent learns after -ln(1 - 1/κ)/decay",
    source=THEORY,
    quantity="time until half of the product is learned / closed form, at the smallest decay",
    region=Region.around(1, 0.05),
    origin="derived: leading order in small weights, so that the error shrinks with the decay",
    each=tagged(kind="plateau").expand(_plateaus), status="derived",
    how="A chain of three scalars. A delay alone is no sign of escape over a barrier.",
)  # fmt: skip
def plateau(start: tuple[float, list[Piece]]) -> Answer:
    ratio, found = start
    over = {}
    for p in found:
        at = int(np.argmin(np.abs(p.array("ratio") - ratio)))
        over[f"at decay {p['decay']:g}"] = float(p.array("time")[at] / p.array("theory")[at])
    return Measured(Estimate.exact(next(iter(over.values()))), over)


@claim(
    "phases.plateau-never-below",
    sentence="From below the saddle, κ < 1, gradient descent never learns",
    source=THEORY,
    quantity="starts with κ < 1 from which the mode was learned",
    region=(0, 0), origin="derived: the origin attracts all of them",
    each=each_piece("plateau", lambda p: f"decay {p['decay']:g}", kind="plateau"), status="derived",
    how="κ = 0.9, watched for 20/decay.",
)  # fmt: skip
def never_below(p: Piece) -> Estimate:
    return Estimate.exact(float(np.isfinite(p.array("time")[p.array("ratio") <= 1]).sum()))


def _jumps(
    id: str, sentence: str, held: tuple[float, float], share: tuple[float, float], origin: str
) -> TestedClaim[np.ndarray]:
    def delays(run: StudyRun) -> list[Item[np.ndarray]]:
        found = [p for p in pieces_of(run, "sparse") if not p["temperature"] and held[0] <= p["held"] <= held[1]]
        return [Item(f"trap of {p['held']:g} steps", p.array("delays")) for p in found]

    @claim(
        id,
        sentence=sentence,
        source=f"{ERSOY}, claim 4",
        quantity="share of the draws of samples on which descent jumps",
        region=share, origin=origin, each=tagged(kind="sparse").expand(delays), status="derived", figure="sparse",
        how="Batches larger than the set: full-batch descent on 25 fixed samples of 5,000, no noise at all. The delay "
        "is the plateau of weights that were left by the trap; the paper's 1,500 epochs lie in the range of traps of "
        "290 to 300 steps.",
    )  # fmt: skip
    def share_of_draws(delays: np.ndarray) -> Answer:
        ends = delays[np.isfinite(delays)]
        beside = {"jumped": float(len(ends)), "of": float(len(delays))}
        if len(ends):
            spread = (np.median(ends), ends.min(), ends.max())
            beside |= dict(zip(("median delay", "shortest", "longest"), map(float, spread), strict=True))
        return Measured(proportion(len(ends), len(delays)), beside)

    return share_of_draws


jump = _jumps(
    "phases.jump-without-noise",
    "The paper's delayed jump on 25 samples is deterministic: descent jumps after traps of up to 300 steps",
    (0, 300), (0.9, 1), "ours: nine of ten draws",
)  # fmt: skip
no_jump = _jumps(
    "phases.no-jump-after-long-traps",
    "On 25 samples, descent without noise never jumps after traps of 350 steps and more", (350, math.inf), (0, 0.1),
    "ours: one of ten draws",
)  # fmt: skip


@claim(
    "phases.jump-by-noise",
    sentence="From a converged trap Langevin noise gives the curve too: a long plateau, then the test loss falls",
    source=REPLICATION,
    quantity="mean test loss after the jump / before it",
    region=(0, 0.75), origin="ours: a fall by a quarter",
    each=each_piece("sparse", lambda p: f"decay {p['decay']:g}" * bool(p["temperature"]), kind="sparse"),
    status="ours", figure="sparse-noise",
    how="Trap of 3,000 steps, from which descent never escapes. Mean over the draws that jumped after a plateau of "
    "3,000 steps and were watched for 6,000 more. Train and test fall together: the test does not lag behind, which "
    "grokking's delayed generalization needs. The plateau is long, the gap is not.",
)  # fmt: skip
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


STAGES = "Langevin noise at T = 0.0005, signals 0.9 and 0.6, decay 0.2, width 10."


@claim(
    "phases.stages-in-order",
    sentence="Under Langevin noise two modes are learned in stages, rank 0 to 1 to 2",
    source=REPLICATION,
    quantity="share of the networks that learn the stronger mode first",
    region=(0.95, 1), origin="ours: nearly all",
    each=each_piece("staged", lambda p: "signals 0.9 and 0.6", kind="staged"), status="ours", figure="staged",
    how=STAGES,
)  # fmt: skip
def in_order(p: Piece) -> Answer:
    first = p.array("first")
    return proportion(int((first[:, 0] < first[:, 1]).sum()), len(first), "networks")


@claim(
    "phases.plateau-between-stages",
    sentence="A plateau separates the learning of two modes under Langevin noise",
    source=REPLICATION,
    quantity="median over networks of the step of the second jump / that of the first",
    region=(10, math.inf), origin="ours: ten times as long as the first stage",
    each=each_piece("staged", lambda p: "signals 0.9 and 0.6", kind="staged"), status="ours", figure="staged",
    how=f"{STAGES} Infinite where most networks had not made the second jump when they were stopped.",
)  # fmt: skip
def plateau_between(p: Piece) -> Answer:
    first = p.array("first")[np.isfinite(p.array("first")[:, 0])]
    if not len(first):
        return Open("no network made the first jump", "longer runs")
    names = ("median step of the first jump", "of the second")
    steps = {name: float(np.median(first[:, k])) for k, name in enumerate(names)}
    return with_rows(middle(first[:, 1] / first[:, 0], "networks"), steps)


CLAIMS = (
    dwell_time, plateau, never_below, jump, no_jump, jump_by_noise, in_order, plateau_between,
)  # fmt: skip
