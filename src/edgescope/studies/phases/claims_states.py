"""Claims about states: how many there are at a decay, which is lowest, and what their loss is."""

from __future__ import annotations

import math

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.readings import Piece, each_piece
from edgescope.experiments.phases.states import PAPER_DECAY, PAPER_MODES
from edgescope.experiments.selection import Item
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.theory.deep_linear import Mode

EACH_MODE_SET = each_piece("states", lambda p: p.note, kind="states")
PAPER = each_piece("states", lambda p: f"signals 0.9 and 0.8 at decay {PAPER_DECAY}" * bool(_losses(p)), kind="states")


def _losses(problem: Piece) -> dict[int, float]:
    """The regularised losses of the states that descent finds in the paper's problem, by rank."""
    return {rank: problem[key] for rank in (0, 1, 2) if (key := f"paper/rank {rank}") in problem.values}


@stated_claim("phases.number-of-states", each=EACH_MODE_SET)
def number_of_states(problem: Piece) -> Answer:
    return Measured(Estimate.exact(problem["agree"] / problem["of"]), {"decays": problem["of"]})


@stated_claim("phases.rank-2-global-minimum", each=PAPER)
def global_minimum(problem: Piece) -> Answer:
    losses = _losses(problem)
    beside = {f"loss of rank {rank}": loss for rank, loss in losses.items()}
    if 2 not in losses or len(losses) < 2:
        return Open("gradient descent found no state of rank 2, or no other", "more steps of descent", beside=beside)
    return Measured(Estimate.exact(losses[2] - min(loss for rank, loss in losses.items() if rank < 2)), beside)


@stated_claim(
    "phases.printed-loss",
    each=PAPER.expand(lambda p: [Item(f"rank {rank}", (rank, loss)) for rank, loss in _losses(p).items() if rank]),
)
def printed_loss(state: tuple[int, float]) -> Answer:
    (rank, loss), signals = state, PAPER_MODES.signals
    learned = [Mode(3, signal) for signal in signals[:rank]]
    misfit = sum(0.5 * signal**2 for signal in signals[rank:])
    misfit += sum(0.5 * (m.signal - float(m.minimum_product(PAPER_DECAY))) ** 2 for m in learned)
    weights = sum(PAPER_DECAY / 2 * float(m.minimum(PAPER_DECAY)) ** 2 for m in learned)
    beside = {"loss found": loss, "with the factor D": misfit + 3 * weights, "as printed": misfit + weights}
    return Measured(Estimate.exact(math.fabs(misfit + weights - loss)), beside)


@stated_claim("phases.coexistence", each=EACH_MODE_SET)
def coexistence(problem: Piece) -> Estimate:
    return Estimate.exact(float((problem.array("rank") == problem.array("theory_rank")).mean()))


CLAIMS = (number_of_states, global_minimum, printed_loss, coexistence)
