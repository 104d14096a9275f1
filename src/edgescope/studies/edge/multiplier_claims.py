"""The claim about learning rates by block that follow from the sharpness of the blocks."""

from __future__ import annotations

from edgescope.claims import Measured, Open
from edgescope.experiments.edge.multiplier_runs import RuleAgainstOneRate, rules_against_one_rate
from edgescope.experiments.selection import CaseSelection
from edgescope.studies.stated_claim import stated_claim


@stated_claim("edge.block-rates-train-faster", each=CaseSelection(rules_against_one_rate))
def block_rates_train_faster(found: RuleAgainstOneRate) -> Measured | Open:
    if found.at_the_end:
        why = f"of {found.at_the_end} of {len(found.logs)} seeds the best learning rate is the last that was tried"
        return Open(why, "more learning rates", found.ratio.value)
    return Measured(found.ratio, {"seeds": float(len(found.logs))})


MULTIPLIER_CLAIMS = (block_rates_train_faster,)
