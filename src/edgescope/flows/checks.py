"""What a flow cannot describe, refused before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgescope.errors import InputError
from edgescope.flows.averaged import CRITICAL
from edgescope.objective.modes import active_dropout
from edgescope.objective.objective import Objective
from edgescope.objective.third import kinked_operations
from edgescope.options import type_of


def refuse_objective(objective: object) -> None:
    """Raise :class:`InputError` for what is no full-batch, deterministic objective; warn of losses with kinks."""
    if not isinstance(objective, Objective):
        several = "one Objective of all data, not mini-batches of it" if isinstance(objective, Iterator) else None
        raise InputError(
            f"a flow of {type_of(objective)}", expected="an Objective over all training data", hint=several
        )
    if objective.model.training:
        for name, rate in active_dropout(objective.model):
            raise InputError(
                f"dropout in '{name}' (p={rate:g}): training with random masks has no central flow",
                hint="a model without dropout, or in evaluation mode (model.eval()) if it is trained so",
            )
    kinks = kinked_operations(objective)
    if kinks:
        objective.notices.give(
            "measure",
            f"the derivative of {', '.join(kinks)} jumps, and a central flow does not see curvature that lies in jumps",
            hint="smooth operations, such as tanh and GELU",
            cause="flow over kinks",
            faq="kinks",
        )


def check_substeps(substeps: int, stiffness: float, corrected: bool) -> None:
    """Raise :class:`InputError` where Euler steps of this length are unstable at the threshold."""
    least = max(1, math.ceil(stiffness / 2 - 1e-9))
    if corrected:
        least = max(least, 2)
    if substeps < least:
        why = "with the correction" if corrected and stiffness == CRITICAL else "with this momentum"
        raise InputError(
            f"substeps={substeps} {why}", expected=f"at least {least}", hint=f"substeps={math.ceil(stiffness)}"
        )


def check_start(share: float, band: float) -> None:
    """Raise :class:`InputError` where the sharpness is above the threshold."""
    if share > 1 + band:
        raise InputError(
            f"the sharpness is {share:.3g} of the threshold where the flow starts",
            expected=f"at most {1 + band:g}",
            hint="an earlier start, or the mean of two successive iterates as weights",
        )
