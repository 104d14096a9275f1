"""The learning rate at which an optimizer's step on one batch no longer lowers the loss of that batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.measures.blocks import blocks_of
from edgescope.objective import Objective
from edgescope.optim import UpdateRule, rule_for
from edgescope.optim.sam import SAM
from edgescope.sharpness.rise import first_rise
from edgescope.sharpness.smoothness import loss_rounding
from edgescope.tuning.training_copy import TrainingCopy

SMALL_RATE = 1e-6
"""Learning rate at which metric and threshold of a rule are read: times a weight decay it is nothing beside 2."""

FIRST = 1e-2
"""Length of the first step tried, as a share of that of the parameters."""

FURTHEST = 2.0**40
"""Times the first step, the longest one tried."""


@dataclass(frozen=True)
class BatchRate:
    """The critical learning rate of one batch.

    ``bounded`` is False where the loss rises nowhere along the step: ``value`` is then the largest learning rate tried.
    ``shares`` say which layers' curvature limits the step, adding up to 1; empty where that is not known. ``losses``
    and ``gradients`` are what was evaluated.
    """

    value: float
    bounded: bool
    shares: dict[str, float]
    losses: int
    gradients: int


def batch_critical_rate(objective: Objective, training: TrainingCopy) -> BatchRate | None:
    """The critical learning rate of one batch, of which ``objective`` is the loss, at the parameters of ``training``.

    Where the update rule of the optimizer is known and linear, with the preconditioner P of the next step on this
    batch, it is the rate at which its threshold is met by the curvature along u = P^-1 g: the loss along -u first rises
    at s*, which is 2/(u'Hu/g'u) on a quadratic, and the curvature 2/s* is compared with the threshold, 2/η for gradient
    descent, (2 + 2β)/η with momentum β, (2 + 2β)/((1 - β)η) for Adam. On a quadratic of one curvature that is exactly
    where training turns unstable. For other optimizers (Muon, Lion, SAM) it is s* along the step that the optimizer
    itself would take from its present state. Where gradients are clipped, it is that of the shorter step.

    None where the gradient is zero or the step goes uphill on this batch. Cost: a gradient, 3 to 6 losses, and a
    gradient for the shares.
    """
    before, w, g = objective.spent, objective.parameters(), objective.gradient()
    if not bool(g.any()):
        return None
    step, shift, factor = _direction(objective, training, _clipped(g, training.clip))
    gradient = g.double() if shift is None else g.double() + shift * w.double()
    slope = float(gradient @ step)
    length = float(step.norm())
    if not (math.isfinite(length) and length > 0 and slope < 0):
        return None
    scale = FIRST * (float(w.double().norm()) or 1.0) / length
    value_at = _along(objective, w, step * scale, shift)
    start = value_at(0.0)
    noise = loss_rounding(w.dtype, start, start)
    found = first_rise(value_at, start, slope * scale, noise, most=FURTHEST)
    bounded = math.isfinite(found.root)
    reached = found.root if bounded else found.low
    if not bounded and reached == 0:
        return None
    shares = _shares(objective, w, step * scale * reached, g) if bounded else {}
    spent = objective.spent - before
    return BatchRate(factor * scale * reached, bounded, shares, spent.losses, spent.gradients)


def _clipped(g: Float[Tensor, " P"], clip: float | None) -> Float[Tensor, " P"]:
    """The gradient as the optimizer receives it."""
    return g if clip is None else g * min(1.0, clip / max(float(g.double().norm()), 1e-300))


def _direction(
    objective: Objective, training: TrainingCopy, g: Float[Tensor, " P"]
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"] | None, float]:
    """A step, the diagonal that coupled weight decay adds to the Hessian, and what the multiple s* of the step is
    multiplied with for the critical rate."""
    training.set_rate(SMALL_RATE)
    try:
        rule = rule_for(training.optimizer, objective.tensors)
        return _linear(rule, g)
    except (NotKnownError, InputError):  # no rule, or a preconditioner that is zero somewhere
        return _own_step(objective, training, g), None, 1.0


def _linear(rule: UpdateRule, g: Float[Tensor, " P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"] | None, float]:
    threshold = rule.threshold()
    if threshold.geometry is not None or threshold.normalized or threshold.radius or rule.gradients > 1:
        raise NotKnownError("the step of this optimizer is not linear in the gradient")
    metric, shift = rule.metric(g), rule.shift()
    w = torch.cat([t.detach().flatten() for t in rule.tensors]).to(g)
    driving = (g if shift is None else g + shift.to(g) * w).double()[:, None]
    u = driving if metric is None else metric.inverse_root(metric.inverse_root(driving))
    return -rule.sign() * u[:, 0], None if shift is None else shift.double(), SMALL_RATE * threshold.value / 2


def _own_step(objective: Objective, training: TrainingCopy, g: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """The step of the optimizer at learning rate 1, from its present state, which is put back with the parameters."""
    before = objective.parameters()
    state = copy.deepcopy(training.optimizer.state_dict())
    tensors = objective.tensors
    for tensor, piece in zip(tensors, objective.layout.split(g), strict=True):
        tensor.grad = piece.to(tensor.dtype).reshape(tensor.shape)
    training.set_rate(1.0)
    if isinstance(training.optimizer, SAM):
        training.optimizer.first_step()
        after = objective.gradient()
        for tensor, piece in zip(tensors, objective.layout.split(after), strict=True):
            tensor.grad = piece.to(tensor.dtype).reshape(tensor.shape)
        training.optimizer.second_step()
    else:
        training.optimizer.step()
    step = objective.parameters().double() - before.double()
    objective.assign(before)
    training.optimizer.load_state_dict(state)
    for tensor in tensors:
        tensor.grad = None
    return step


def _along(
    objective: Objective, w: Float[Tensor, " P"], step: Float[Tensor, " P"], shift: Float[Tensor, " P"] | None
) -> Callable[[float], float]:
    """The loss, with the penalty that coupled weight decay stands for, at multiples of the step."""

    def value_at(s: float) -> float:
        place = w.double() + s * step
        penalty = 0.0 if shift is None else 0.5 * float((shift * place) @ place)
        return float(objective.loss(place.to(w.dtype))) + penalty

    return value_at


def _shares(
    objective: Objective, w: Float[Tensor, " P"], step: Float[Tensor, " P"], g: Float[Tensor, " P"]
) -> dict[str, float]:
    """The share of each layer in the curvature over the whole step, d_b·(Hd)_b/d·Hd with the mean Hessian along it."""
    change = objective.gradient((w.double() + step).to(w.dtype)).double() - g.double()
    terms = step * change
    total = float(terms.sum())
    if not (math.isfinite(total) and total > 0):
        return {}
    parts = {
        name: sum(float(terms[s].sum()) for s in own) for name, own in blocks_of(objective.layout, "layers").items()
    }
    return {name: part / total for name, part in parts.items()}
