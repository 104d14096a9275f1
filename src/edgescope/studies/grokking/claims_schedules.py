"""The claim that a schedule of weight decay takes the set-ups that grok to their test accuracy sooner."""

from __future__ import annotations

from edgescope.claims import Answer
from edgescope.experiments.phases.decay_comparison import ratio_of_steps
from edgescope.experiments.phases.readings import Piece, each_piece
from edgescope.studies.stated_claim import stated_claim


@stated_claim("grokking.schedule-saves-steps", each=each_piece("decay trials", lambda p: p.note, kind="decay trials"))
def saves_steps(p: Piece) -> Answer:
    return ratio_of_steps(p)


CLAIMS = (saves_steps,)
