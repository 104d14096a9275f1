"""Clipping by norm, of gradients before the optimizer or of its steps after it: the factor, and the threshold."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.optim.rule import UpdateRule
from edgescope.optim.threshold import Threshold
from edgescope.options import check_float

GUARD = 1e-6
"""What ``torch.nn.utils.clip_grad_norm_`` adds to the norm that it divides by."""


def clip_factor(vector: Float[Tensor, " P"], max_norm: float, norm_type: float = 2.0) -> float:
    """By what ``torch.nn.utils.clip_grad_norm_`` multiplies a gradient: min(1, c/(||g|| + 1e-6)).

    ``vector`` has all that is clipped together, ``max_norm`` is c. Raises :class:`InputError` for a c that is not
    positive and finite.
    """
    c = check_float("clipping", "max_norm", max_norm, above=0)
    norm = float(vector.double().norm(norm_type))
    return min(1.0, c / (norm + GUARD))


def clipped_threshold(rule: UpdateRule, gradient: Float[Tensor, " P"], max_norm: float) -> Threshold:
    """The threshold where the gradient at this point is clipped to ``max_norm`` before the optimizer receives it.

    While ||g|| > c steps are those on the Hessian c/||g|| H, with the length of g frozen, so that the threshold is
    ||g||/c times the one without: 2||g||/(eta c) for gradient descent, (2 + 2 beta)||g||/(eta c) where clipping stands
    before a Polyak buffer. It is to be compared with the largest eigenvalue of ``rule.effective(operator, factor)`` in
    ``rule.metric(factor * gradient)``: a preconditioner is made of clipped gradients. ``gradient`` is that of the loss,
    before clipping. Beyond the threshold descent on a quadratic does not diverge: its gradient settles at ||g|| =
    h eta c/2, where the threshold is h.
    """
    return rule.threshold().scaled(clip_factor(gradient, max_norm))


def step_factor(taken: Float[Tensor, " P"], predicted: Float[Tensor, " P"]) -> float:
    """The length of a recorded step as a multiple of the rule's: <d, r>/||r||^2; 1 where nothing scales the steps.

    ``taken`` is the difference of the parameters over one step, ``predicted`` that of ``rule.update`` on the gradient
    that the optimizer received. Where updates are clipped after the optimizer, past its momentum, this is the clip
    factor s, and with s frozen the threshold is ``threshold().value / s`` (without decoupled decay, which is clipped
    too). Raises :class:`NotKnownError` where the rule predicts no step, or where they are not parallel to 1 part in
    1,000, and so are not the same step times a factor, and :class:`InputError` for vectors of different sizes.
    """
    if taken.shape != predicted.shape:
        raise InputError(f"steps of shapes {tuple(taken.shape)} and {tuple(predicted.shape)}", expected="the same")
    d, r = taken.double(), predicted.double()
    size, length = float(r.norm()), float(d.norm())
    if not (0 < size < math.inf and length < math.inf):
        raise NotKnownError("the factor of a step is not known where the rule predicts none, or one that is not finite")
    product = float(d @ r)
    if length and product < 0.999 * size * length:
        raise NotKnownError(
            f"the step that was taken is not the rule's times a factor (cosine {product / size / length:.3g})",
            hint="the gradient that the optimizer received, and the parameters right before and after its step",
        )
    return product / size**2
