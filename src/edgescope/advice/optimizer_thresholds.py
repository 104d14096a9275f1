"""The learning rates at which common optimizers become unstable at a given sharpness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from edgescope.advice.section import Section, unknown
from edgescope.errors import InputError
from edgescope.monitor.reasons import CitedFigure, Reason
from edgescope.optim import OPTIMIZERS, rule_for

PLAIN: Final = ("sgd", "sgd:momentum=0.9", "sgd:momentum=0.9,nesterov=true")
"""Optimizers without a preconditioner, whose threshold the Hessian's largest eigenvalue is compared with."""


@dataclass(frozen=True)
class CriticalRate:
    """The learning rate above which an optimizer is unstable, and the formula of its threshold."""

    optimizer: str
    rate: float
    formula: str


def critical_rates(sharpness: float, optimizers: tuple[str, ...] = PLAIN) -> tuple[CriticalRate, ...]:
    """The critical learning rate of each optimizer at this largest eigenvalue of the Hessian, in full batches.

    For optimizers whose threshold is inversely proportional to the learning rate: no weight decay, no preconditioner.
    Raises :class:`InputError` for a sharpness that is not positive. No cost.
    """
    if not sharpness > 0:
        raise InputError(f"critical learning rates at a sharpness of {sharpness:g}", expected="a positive sharpness")
    found = []
    for spec in optimizers:
        tensor = torch.zeros(1, requires_grad=True)
        threshold = rule_for(OPTIMIZERS.build(spec).build([tensor], lr=1.0), [tensor]).threshold()
        found.append(CriticalRate(spec, threshold.value / sharpness, threshold.formula))
    return tuple(found)


def thresholds_section(question: str, sharpness: CitedFigure | None, where: str) -> Section:
    """The answer to where optimizers are unstable at this sharpness, None or not positive where it is not known."""
    if sharpness is None or not sharpness.value > 0:
        return unknown("thresholds", question, f"There is no positive eigenvalue of the Hessian {where}")
    listed = "; ".join(f"{one.optimizer}: {one.rate:.3g} ({one.formula})" for one in critical_rates(sharpness.value))
    return Section(
        "thresholds",
        question,
        (
            Reason(f"At the sharpness of {sharpness} {where}, in full batches: {listed}", (sharpness,)),
            Reason(
                "Adaptive optimizers have a preconditioner of their own, known only from training with them: 'edgescope"
                " inspect' reads it from a checkpoint",
                (),
            ),
        ),
    )
