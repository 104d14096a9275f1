"""Claims about states: how many there are at a decay, which is lowest, and what their loss is."""

from __future__ import annotations

import math

from edgescope.statistics.estimate import Estimate
from edgescope.studies.phases.readings import ERSOY, THEORY, Piece, each_piece
from edgescope.studies.selection import Item
from edgescope.studies.tested_claim import Answer, Measured, Open, claim
from edgescope.theory.deep_linear import Mode

SIGNALS, DECAY = (0.9, 0.8), 0.32
"""The paper's problem."""

PROBLEMS = each_piece("states", lambda p: p.note, kind="states")
PAPER = each_piece("states", lambda p: f"signals 0.9 and 0.8 at decay {DECAY}" * bool(_losses(p)), kind="states")


def _losses(problem: Piece) -> dict[int, float]:
    """The regularised losses of the states that descent finds in the paper's problem, by rank."""
    return {rank: problem[key] for rank in (0, 1, 2) if (key := f"paper/rank {rank}") in problem.values}


@claim(
    "phases.number-of-states",
    sentence="The number of metastable states at each decay is that of the phase diagram",
    source=THEORY,
    quantity="share of the decays at which the numbers agree",
    region=(0.9, 1),
    origin="ours: close to a spinodal descent takes longer than it was given, and numbers may differ there",
    each=PROBLEMS, status="derived",
    how="Different ends of gradient descent from every set of learned modes, a little jittered.",
)  # fmt: skip
def number_of_states(problem: Piece) -> Answer:
    return Measured(Estimate.exact(problem["agree"] / problem["of"]), {"decays": problem["of"]})


@claim(
    "phases.rank-2-global-minimum",
    sentence="At decay 0.32 rank 2 is the global minimum",
    source=ERSOY,
    quantity="regularised loss of the state of rank 2 less that of the lowest other state",
    region=(-math.inf, 0), origin="the paper", each=PAPER, names_cases=True,
    how=f"Signals 0.9 and 0.8. The decay lies above the coexistence decay {Mode(3, 0.8).coexistence_decay():.4f} of "
    "the second mode, so that the state of lower rank is lower: escape to rank 2 goes uphill in loss.",
)  # fmt: skip
def global_minimum(problem: Piece) -> Answer:
    losses = _losses(problem)
    beside = {f"loss of rank {rank}": loss for rank, loss in losses.items()}
    if 2 not in losses or len(losses) < 2:
        return Open("gradient descent found no state of rank 2, or no other", "more steps of descent", beside=beside)
    return Measured(Estimate.exact(losses[2] - min(loss for rank, loss in losses.items() if rank < 2)), beside)


@claim(
    "phases.printed-loss",
    sentence="The regularised loss of a mode is (s - w^D)²/2 + decay w²/2, as the paper prints it",
    source=f"{ERSOY}, its equation of the regularised loss",
    quantity="distance of the loss as printed from that of the state that descent finds",
    region=(0, 1e-3), origin="ours: well above what descent leaves, well below one term of the sum",
    each=PAPER.expand(lambda p: [Item(f"rank {rank}", (rank, loss)) for rank, loss in _losses(p).items() if rank]),
    names_cases=True,
    how="States at decay 0.32 with one learned mode or two. Each of the D matrices has the weight of the mode, so that "
    "the decay term counts D times; the paper's later equations have the factor.",
)  # fmt: skip
def printed_loss(state: tuple[int, float]) -> Answer:
    rank, loss = state
    learned = [Mode(3, signal) for signal in SIGNALS[:rank]]
    misfit = sum(0.5 * signal**2 for signal in SIGNALS[rank:])
    misfit += sum(0.5 * (m.signal - float(m.minimum_product(DECAY))) ** 2 for m in learned)
    weights = sum(DECAY / 2 * float(m.minimum(DECAY)) ** 2 for m in learned)
    beside = {"loss found": loss, "with the factor D": misfit + 3 * weights, "as printed": misfit + weights}
    return Measured(Estimate.exact(math.fabs(misfit + weights - loss)), beside)


@claim(
    "phases.coexistence",
    sentence="The lowest state loses its modes at their coexistence decays, below those at which they cease to exist",
    source=THEORY,
    quantity="share of the decays at which the lowest state has the rank of the closed form",
    region=(0.9, 1), origin="ours: the resolution of the decays looked at", each=PROBLEMS, status="derived",
    how="The states that are counted above, by their regularised loss.",
)  # fmt: skip
def coexistence(problem: Piece) -> Estimate:
    return Estimate.exact(float((problem.array("rank") == problem.array("theory_rank")).mean()))


CLAIMS = (number_of_states, global_minimum, printed_loss, coexistence)
