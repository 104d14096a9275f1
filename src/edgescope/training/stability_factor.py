"""For which runs gradient flow gives a critical learning rate: their thresholds are a number over the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgescope.optim import OPTIMIZERS, plan_optimizers, rule_for
from edgescope.optim.named import SGD
from edgescope.training.schedules import SCHEDULES, ConstantSchedule


def stability_factor(optimizer: str) -> float | None:
    """The c of a threshold c/lr of the largest eigenvalue of the Hessian; None for an optimizer that has none.

    2 for gradient descent, 2 + 2β for Polyak's momentum, (2 + 2β)/(1 + 2β) for Nesterov's. Only SGD without weight
    decay has one: with decay the threshold is no multiple of 1/lr, and the other optimizers have preconditioners, noise
    or norms of their own.
    """
    named = plan_optimizers(optimizer).named
    if len(named) > 1 or not isinstance(named[0], SGD) or named[0].weight_decay:
        return None
    tensor = torch.zeros(1, requires_grad=True, device="cpu")
    return float(rule_for(OPTIMIZERS.build(optimizer).build([tensor], lr=1.0), [tensor]).threshold().value)


def factor_of_run(config: Mapping[str, Any]) -> float | None:
    """The factor with which the regimes of a run follow from gradient flow, from the configuration in its record.

    None where they do not: besides optimizers without :func:`stability_factor`, for gradients that are clipped and for
    learning rates that change.
    """
    constant = isinstance(SCHEDULES.build(config.get("schedule", "constant")), ConstantSchedule)
    if config.get("clip") is not None or not constant:
        return None
    return stability_factor(str(config["optimizer"]))
