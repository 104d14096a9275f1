"""The curvature along the optimizer's preconditioned gradient, over the stability threshold."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.objective import Objective
from edgescope.optim.rule import UpdateRule


def gradient_curvature(objective: Objective, rule: UpdateRule | None, step: Float[Tensor, " P"] | None) -> float:
    """q·(Hq)/(g·q) over the threshold, where q = P^(-1) g of the optimizer's preconditioner P: 1 at the edge.

    H and g include coupled weight decay. Where the rule is not known, or its threshold is not one of an eigenvalue,
    it is d·(Hd) / 2 (d·(Hd) - g·d) of the last ``step`` d, which has led to the present parameters: of a quadratic
    loss, 1 where the loss was the same before the step, for any optimizer; infinite where the step began uphill. NaN
    where neither is known. Cost: one gradient and one product.
    """
    found = math.nan
    if rule is not None:
        try:
            found = _of_rule(objective, rule)
        except NotKnownError:
            found = math.nan
    return found if not math.isnan(found) or step is None else _of_step(objective, step)


def _of_rule(objective: Objective, rule: UpdateRule) -> float:
    threshold = rule.threshold()
    if rule.gradients > 1 or threshold.geometry is not None:
        return math.nan
    metric, shift, w = rule.metric(), rule.shift(), objective.parameters()
    gradient = objective.gradient()
    if shift is not None:
        gradient = gradient + shift.to(w) * w
    unit = (gradient / torch.linalg.vector_norm(gradient).clamp(min=torch.finfo(w.dtype).tiny))[:, None]
    q = unit if metric is None else metric.inverse_root(metric.inverse_root(unit))
    slope = float((unit.double() * q).sum())
    if not slope > 0:
        return math.nan
    product = rule.effective(objective.operator()) @ q
    return float((q.double() * product).sum()) / slope / threshold.value


def _of_step(objective: Objective, step: Float[Tensor, " P"]) -> float:
    gradient, moved = objective.gradient().double(), step.double()
    curvature = float(moved @ objective.hvp(step.to(objective.dtype)).double())
    before = curvature - float(gradient @ moved)  # -g·d where the step began, of a quadratic loss
    if before > 0:
        return curvature / (2 * before)
    return math.inf if curvature > 0 else math.nan
