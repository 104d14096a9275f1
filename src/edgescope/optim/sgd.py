"""Gradient descent as ``torch.optim.SGD`` steps it: plain, Polyak momentum with dampening, Nesterov, L2 decay."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.optim.held_state import Group
from edgescope.optim.label_noise import LabelNoiseSGD
from edgescope.optim.langevin import Langevin
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import UpdateRule

GRADIENT_DESCENT = "Cohen et al. 2021, arXiv 2103.00065"


class SGDRule(UpdateRule):
    """b' = beta b + (1 - tau) g (the first step: b' = g), w' = w - eta b', or w - eta (g + beta b') for Nesterov.

    Thresholds on H + lambda I (lambda the weight decay, coupled in torch; derivation: :class:`Momentum`): 2/eta without
    momentum, (2 + 2 beta)/eta for Polyak, (2 + 2 beta)/((1 - tau) eta) with dampening tau, and
    (2 + 2 beta)/((1 + 2 beta) eta) for Nesterov, whose u = g + beta b' = h w (1 + 2 beta)/(1 + beta) at the threshold.
    Noise in the targets or added to the gradient leaves the rule unchanged: the Jacobian of the update is the same.
    """

    kinds = (torch.optim.SGD, LabelNoiseSGD, Langevin)
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if any(group["momentum"] for group in self.groups()) else ()

    def keeps(self, group: Group, name: str) -> bool:
        return bool(group["momentum"])

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, beta = float(group["lr"]), float(group["momentum"])
        gradient = gradient + self.coupled_decay(group) * w
        if not beta:
            return w - lr * gradient, state
        later = beta * state["momentum_buffer"] + (1 - group["dampening"]) * gradient
        buffer = torch.where(state["step"] > 0, later, gradient)
        direction = gradient + beta * buffer if group["nesterov"] else buffer
        return w - lr * direction, {"momentum_buffer": buffer}

    def state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """None: the preconditioner is constant. The momentum buffer follows the gradients at once."""
        if isinstance(self.optimizer, LabelNoiseSGD | Langevin):
            raise NotKnownError(f"the averaged dynamics of {self.name} is not known, since its steps are random")
        return {}

    def momentum_of(self, group: Group) -> Momentum:
        beta, dampening = float(group["momentum"]), float(group["dampening"])
        if not beta:
            return Momentum(source=GRADIENT_DESCENT)
        if group["nesterov"]:  # torch refuses dampening with it
            return Momentum(beta, direct=1.0, through=beta, divisor="(1+2β)")
        return Momentum(beta, gain=1 - dampening, divisor="(1-τ)" if dampening else "", source=COMPANION)
