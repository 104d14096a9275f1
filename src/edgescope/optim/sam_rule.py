"""Sharpness-aware minimization as an update rule: the base optimizer on the gradients at perturbed weights."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import DiagonalMetric, Metric
from edgescope.linalg.operator import Operator
from edgescope.optim.held_state import Group
from edgescope.optim.known import rule_of
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sam import SAM
from edgescope.optim.threshold import Threshold, check_gradient_scale
from edgescope.optim.unknown_options import check_present
from edgescope.shards import whole

LONG = "Long and Bartlett 2023 (arXiv 2309.12488)"


class SAMRule(UpdateRule):
    """The base's step on the gradient at w + e, e = rho g/||g||, or rho w^2 g/||w g|| where it is adaptive.

    ``update`` is the base's, on the gradient that the base receives: the one at w + e.

    **Threshold.** To first order that gradient is g + H e. With ||g|| (and the w^2 of an adaptive e) frozen, e = E g
    with E = rho/||g||, so that near a minimum steps are those of the base on H + H E H, a symmetric matrix: SAM turns
    unstable where its largest eigenvalue, with decay and in the metric of the base, passes the threshold of the base,
    2/(eta Gamma) with momentum. That is what ``effective(operator, gradient=g)`` is, at two Hessian products a vector.
    Where P is the identity and rho one number, this is a threshold for the eigenvalue h of H itself,
    h (1 + rho h/||g||) = 2/(eta Gamma), which ``threshold().at(g)`` gives.

    All of it is about one perturbation from the gradient of the whole batch, at a point where H is that of the
    objective. It is for :class:`SAM`, and for classes of that name with ``rho`` and ``adaptive`` in their groups and
    their base as ``base_optimizer``.
    """

    kinds = (SAM,)
    names = ("SAM",)
    gradients = 2

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("rho", "adaptive"))
        base = getattr(optimizer, "base", getattr(optimizer, "base_optimizer", None))
        if not isinstance(base, torch.optim.Optimizer):
            raise NotKnownError(f"the base optimizer of {type(optimizer).__name__} is not known")
        self.base = rule_of(base, parameters)
        super().__init__(optimizer, parameters)
        if self.base.sign() < 0:
            raise NotKnownError(f"the update rule of {self.name} around an optimizer with maximize=True is not known")

    # What the base does on the gradient it receives.

    def vectors(self) -> tuple[str, ...]:
        return self.base.vectors()

    def keeps(self, group: Group, name: str) -> bool:
        return self.base.keeps(group, name)

    def layout(self) -> dict[str, list[bool]]:
        return self.base.layout()

    def counts(self) -> tuple[str, ...]:
        return self.base.counts()

    def state(self) -> dict[str, Tensor]:
        return self.base.state()

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        return self.base.update(w, state, gradient)

    def momentum_of(self, group: Group) -> Momentum:
        return self.base.momentum_of(group)

    def coupled_decay(self, group: Group) -> float:
        return self.base.coupled_decay(group)

    def decoupled_decay(self, group: Group) -> float:
        return self.base.decoupled_decay(group)

    def rates(self) -> list[tuple[float, float]]:
        return self.base.rates()

    def rounding(self, state: dict[str, Tensor], gradient: Float[Tensor, " P"]) -> float:
        return self.base.rounding(state, gradient)

    def check_linear(self) -> None:
        self.base.check_linear()

    # What the perturbation makes of it.

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric:
        """That of the base, never None; ``gradient`` is the one that the base receives."""
        found = self.base.scaled_metric(scales, gradient)
        return found or DiagonalMetric(torch.cat([torch.ones_like(whole(t)).flatten() for t in self.tensors]))

    def effective(
        self, operator: Operator, gradient_scale: float = 1.0, gradient: Float[Tensor, " P"] | None = None
    ) -> Operator:
        """H + H E H + shift, as above. ``gradient`` is that of the loss at w, before the perturbation.

        Cost: two products for each. Raises :class:`NotKnownError` without the gradient.
        """
        check_gradient_scale(gradient_scale)
        if gradient is None:
            raise NotKnownError(
                f"the effective Hessian of {self.name} depends on the gradient",
                hint="rule.effective(operator, gradient=objective.gradient())",
            )
        spread, shift = self._spread(gradient)[:, None], self.shift()
        diagonal = torch.zeros((), device="cpu") if shift is None else shift[:, None] / gradient_scale

        def apply(block: Tensor) -> Tensor:
            product = operator @ block
            return product + operator @ (spread.to(block) * product) + diagonal.to(block) * block

        return operator.derived(apply, same_error=True)

    def threshold(self) -> Threshold:
        self.check_linear()
        found = replace(self.base.threshold(), geometry=None)
        if not math.isfinite(found.value):
            return found
        radii = {(float(group["rho"]), bool(group["adaptive"])) for group in self.groups()}
        rho, adaptive = next(iter(radii))
        try:
            plain = self.base.metric() is None and self.shift() is None
        except NotKnownError:
            plain = False
        known = plain and len(radii) == 1 and not adaptive
        formula = f"{found.formula}, of H + (ρ/‖g‖)H²"
        return replace(found, formula=formula, source=f"{LONG}; {found.source}", radius=rho if known else math.nan)

    def _spread(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The diagonal of E."""
        groups, pieces = self.groups(), self.split(gradient)
        weights = [
            whole(t).to(g) ** 2 if group["adaptive"] else torch.ones_like(g)
            for t, group, g in zip(self.tensors, groups, pieces, strict=True)
        ]
        square = sum(float((weight * g * g).sum()) for weight, g in zip(weights, pieces, strict=True))
        if square == 0:
            return torch.zeros_like(gradient)
        radii = [float(group["rho"]) / math.sqrt(square) for group in groups]
        return torch.cat([(r * weight).flatten() for r, weight in zip(radii, weights, strict=True)])
