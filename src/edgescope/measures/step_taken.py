"""The step that the optimizer took compared with its rule, and training's gradient with the objective's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.optim.rule import UpdateRule

SAME_DIRECTION: Final = 0.999
"""Cosine above which two vectors are taken to be one direction: on the full batch it is 1 up to rounding."""

NEAR: Final = 1e-3
"""A factor this close to 1 is none."""

CONSTANT: Final = 1e-4
"""Norms of gradients that agree to this are the norm that they are clipped to."""


@dataclass(frozen=True)
class StepTaken:
    """How the last step, and the gradient that it was taken with, compare with rule and objective.

    ``length`` is <d, r> / ||r||^2 for the step d that was taken and the step r of the optimizer's rule on the same
    gradient, ``cosine`` that of the angle between them, ``error`` what rounding of the parameters, and
    the optimizer's own arithmetic, make of the step as a share of r.
    ``gradient`` is <g, G> / ||G||^2 for the gradient g of training and the gradient G of the objective at the same
    parameters, ``gradient_cosine`` that of the angle between them, ``gradient_norm`` is ||g||. None where something is
    not known or zero. ``among`` is 1 at the parameters that this is about, 0 at others; None: about all. ``uneven`` has
    the factors of the gradients of several optimizers where they are not one and the same.

    ``clipped_to`` is the norm that gradients are clipped to, where they are seen to be: on the full batch by a factor
    that keeps the norm, in mini-batches by three gradients of one norm. ``sure``: a factor of the loss, which is the
    same at all steps, does not explain it as well.
    """

    length: float | None = None
    cosine: float | None = None
    error: float | None = None
    gradient: float | None = None
    gradient_cosine: float | None = None
    gradient_norm: float | None = None
    clipped_to: float | None = None
    sure: bool = False
    uneven: tuple[tuple[str, float], ...] = ()
    among: Float[Tensor, " P"] | None = None

    @property
    def on_the_objective(self) -> bool:
        """Whether training's gradient has the direction of the objective's: the same loss on the same data."""
        return self.gradient_cosine is not None and self.gradient_cosine > SAME_DIRECTION

    @property
    def scaled(self) -> bool:
        """Whether training's gradient is the objective's times a factor that is not 1.

        A gradient in low precision is off in length as it is off in direction.
        """
        if not self.on_the_objective or self.gradient is None or self.uneven:
            return False
        return abs(self.gradient - 1) > max(NEAR, self.rounding)

    @property
    def rounding(self) -> float:
        """By what share ``gradient`` may be off, going by how far its direction is."""
        cosine = 0.0 if self.gradient_cosine is None else self.gradient_cosine
        return 3 * math.sqrt(max(0.0, 1 - cosine**2))

    @property
    def far_apart(self) -> bool:
        """Whether the factors of several optimizers differ by more than the way between their steps explains."""
        factors = [factor for _, factor in self.uneven]
        return bool(factors) and max(factors) > 1.1 * min(factors)

    @property
    def gradient_scale(self) -> float:
        """The factor by which training multiplies the objective's gradient; 1 where that is not known."""
        return self.gradient if self.scaled and self.gradient is not None else 1.0

    @property
    def step_scale(self) -> float:
        """The factor by which the step is longer than that of the rule; 1 where that is not known."""
        if self.length is None or self.cosine is None or self.error is None or self.cosine <= SAME_DIRECTION:
            return 1.0
        return 1.0 if abs(self.length - 1) <= max(1e-2, 3 * self.error) or self.length <= 0 else self.length

    @property
    def clips_the_objective(self) -> bool:
        """Whether the gradient that is clipped is the objective's, so that the factor follows from its norm."""
        return self.clipped_to is not None and self.on_the_objective

    def gradient_scale_at(self, gradient: Float[Tensor, " P"] | None) -> float:
        """The factor of training's gradient where that of the objective is ``gradient`` (None: as it was)."""
        if gradient is None or self.clipped_to is None or not self.on_the_objective:
            return self.gradient_scale
        norm = float((gradient if self.among is None else gradient * self.among).double().norm())
        largest = (
            1.0 if self.gradient_scale < 1 else math.inf
        )  # a sum over samples that is clipped has a factor above 1
        return min(largest, self.clipped_to / norm) if norm > 0 else 1.0


def compare_gradients(
    training: Float[Tensor, " P"],
    objective: Float[Tensor, " P"],
    history: Sequence[tuple[float, float]] = (),
    among: Float[Tensor, " P"] | None = None,
) -> StepTaken:
    """Training's gradient compared with the objective's at the same parameters.

    ``history`` has the norm of training's gradient at the readings before, and what it was times the objective's.
    """
    g, G = training.double(), objective.double()
    norm, size = float(g.norm()), float(G.norm())
    if not (math.isfinite(norm) and math.isfinite(size) and norm > 0 and size > 0):
        return StepTaken(gradient_norm=norm, among=among)
    product = float(g @ G)
    factor = product / size**2
    found = StepTaken(gradient=factor, gradient_cosine=product / (norm * size), gradient_norm=norm, among=among)
    tolerance = max(CONSTANT, found.rounding if found.on_the_objective else 0.0)
    same = [abs(before - norm) <= tolerance * norm for before, _ in history]
    if not found.on_the_objective:
        return replace(found, clipped_to=norm, sure=True) if len(same) >= 2 and all(same[-2:]) else found
    if not found.scaled:
        return found
    if not same:  # clipping, or a factor of the loss: here they are the same
        return replace(found, clipped_to=norm) if factor < 1 else found
    last = history[-1][1]
    if same[-1]:
        return replace(found, clipped_to=norm, sure=abs(last - factor) > max(NEAR, tolerance) * factor)
    return replace(found, clipped_to=norm, sure=True) if factor < 1 and abs(last - 1) <= max(NEAR, tolerance) else found


def compare_parts(found: StepTaken, parts: Sequence[tuple[str, StepTaken]]) -> StepTaken:
    """Add to ``found``, about the gradients of several optimizers together, whether all have one factor.

    They do not where each is clipped by itself, or taken at another place: after the step of the one before. ``parts``
    are about each by itself, with its name.
    """
    known = [(name, part, part.gradient) for name, part in parts if part.gradient is not None]
    if len(known) < 2 or not all(part.on_the_objective for _, part, _ in known):
        return found
    factors = [factor for *_, factor in known]
    allowed = max(max(NEAR, part.rounding) * abs(factor) for _, part, factor in known)
    if max(factors) - min(factors) <= allowed:
        return found
    return replace(found, uneven=tuple((name, factor) for name, _, factor in known), clipped_to=None, sure=False)


def step_of_rule(
    rule: UpdateRule, before: Float[Tensor, " P"], state: dict[str, Tensor], training: Float[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """The step that the rule takes from ``before``, with its options of now and the ``state`` that it had there.

    ``training`` is the gradient. In float64, so that a step below the rounding of the parameters is one. Cost: the
    arithmetic of one step.
    """
    w = (
        before.double().to(rule.tensors[0].device) if rule.tensors else before.double()
    )  # the objective may lie elsewhere
    own = {name: value if name == "step" else value.to(w) for name, value in state.items()}
    with torch.no_grad():
        return (rule.update(w, own, training.to(w))[0] - w).to(before.device)


def compare_steps(
    found: StepTaken,
    ruled: Float[Tensor, " P"],
    before: Float[Tensor, " P"],
    taken: Float[Tensor, " P"],
    dtype: torch.dtype,
    rounding: float = 0.0,
) -> StepTaken:
    """Add to ``found`` how the step ``taken`` from ``before`` compares with that of the rule.

    ``dtype`` is the coarsest precision that the parameters are kept in, ``rounding`` the share by which the optimizer's
    own arithmetic may move its step (:meth:`UpdateRule.rounding`).
    """
    ruled, taken = ruled.double(), taken.double()
    size, length = float(ruled.norm()), float(taken.norm())
    if not (math.isfinite(size) and math.isfinite(length) and size > 0):
        return found
    coarsest = torch.finfo(dtype).eps
    product = float(taken @ ruled)
    return replace(
        found,
        length=product / size**2,
        cosine=product / (size * length) if length > 0 else None,
        error=math.hypot(coarsest * float(before.double().norm()) / size, rounding),
    )
