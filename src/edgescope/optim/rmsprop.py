"""RMSProp as ``torch.optim.RMSprop`` steps it: plain or centered, with momentum, with L2 decay."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.optim.held_state import Group
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root

ADAPTIVE = "Cohen et al. 2022, arXiv 2207.14484"


class RMSPropRule(UpdateRule):
    """v' = alpha v + (1 - alpha) g^2, b' = mu b + g/(sqrt(v') + eps), w' = w - eta b'; no bias correction in torch.

    Preconditioner P = sqrt(v) + eps; centered: sqrt(v - m^2) + eps with m the running mean of the gradients.
    Threshold on P^-1 (H + lambda I), P frozen: 2/eta, and (2 + 2 mu)/eta with momentum (derivation: :class:`Momentum`).
    """

    kinds = (torch.optim.RMSprop,)
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        centered = any(group["centered"] for group in self.groups())
        buffer = any(group["momentum"] > 0 for group in self.groups())
        return ("square_avg", *(("grad_avg",) if centered else ()), *(("momentum_buffer",) if buffer else ()))

    def keeps(self, group: Group, name: str) -> bool:
        return bool({"grad_avg": group["centered"], "momentum_buffer": group["momentum"]}.get(name, True))

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, alpha, mu = float(group["lr"]), group["alpha"], group["momentum"]
        gradient = gradient + self.coupled_decay(group) * w
        after = state | {"square_avg": alpha * state["square_avg"] + (1 - alpha) * gradient * gradient}
        if group["centered"]:
            after["grad_avg"] = alpha * state["grad_avg"] + (1 - alpha) * gradient
        scaled = gradient / self.preconditioner(group, after)
        if mu > 0:
            scaled = after["momentum_buffer"] = mu * state["momentum_buffer"] + scaled
        return w - lr * scaled, after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        variance = state["square_avg"] - state["grad_avg"] ** 2 if group["centered"] else state["square_avg"]
        return root(variance) + group["eps"]

    def state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """(1 - alpha)/alpha times the distance of the running mean from the mean square.

        The division by alpha is for the order of a step: the mean is updated first, and then used.
        """
        if any(group["centered"] or group["momentum"] for group in self.groups()):
            return super().state_rate(state, mean_square)
        rates = [
            (1 - group["alpha"]) / group["alpha"] * (square - mean)
            for group, square, mean in zip(
                self.groups(), self.split(mean_square), self.split(state["square_avg"]), strict=True
            )
        ]
        return {"square_avg": torch.cat([rate.reshape(-1) for rate in rates])}

    def momentum_of(self, group: Group) -> Momentum:
        mu = float(group["momentum"])
        return Momentum(mu, symbol="μ", source=COMPANION if mu else ADAPTIVE)
