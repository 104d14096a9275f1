"""What a flow cannot describe, refused before it starts."""

from __future__ import annotations

import math

from edgescope.errors import InputError
from edgescope.flows.averaged import CRITICAL
from edgescope.objective.modes import active_dropout
from edgescope.objective.objective import Objective
from edgescope.objective.third import kinked_operations
from edgescope.options import type_of


def check_objective(objective: object, owner: str) -> None:
    """Raise :class:`InputError` for what is no objective, or is one of a model that trains with dropout."""
    if not isinstance(objective, Objective):
        raise InputError(
            f"{owner} of {type_of(objective)}",
            expected="an Objective on all training data",
            hint="es.Objective(model, loss_fn, data); the flow of mini-batches is not known",
        )
    dropped = active_dropout(objective.model)
    if dropped and objective.model.training:
        name, p = dropped[0]
        raise InputError(
            f"{owner} of a model that trains with dropout (p={p:g} in '{name}')",
            expected="a loss that is a function of the weights alone",
            hint="model.eval(), if it is trained so",
        )


def warn_of_kinks(objective: Objective) -> None:
    """Warn of a loss whose derivative jumps; cost: a loss on a few samples."""
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
