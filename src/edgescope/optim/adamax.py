"""Adamax as ``torch.optim.Adamax`` steps it: Adam with the largest gradient in place of the mean square."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.rule import UpdateRule


class AdamaxRule(UpdateRule):
    """m' = b1 m + (1 - b1) g, u' = max(b2 u, |g| + eps), w' = w - eta m'/P', P = (1 - b1^t) u.

    Threshold on P^-1 (H + lambda I), P frozen: (2 + 2 b1)/((1 - b1) eta). Decay is coupled in torch.
    """

    kinds = (torch.optim.Adamax,)
    options = frozenset(["lr", "betas", "eps", "weight_decay", "maximize", "foreach", "capturable"])
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        beta1, beta2 = group["betas"]
        gradient = gradient + self.coupled_decay(group) * w
        after = state | {
            "step": state["step"] + 1,
            "exp_avg": beta1 * state["exp_avg"] + (1 - beta1) * gradient,
            "exp_inf": torch.maximum(beta2 * state["exp_inf"], gradient.abs() + group["eps"]),
        }
        return w - float(group["lr"]) * after["exp_avg"] / self.preconditioner(group, after), after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        return (1 - float(group["betas"][0]) ** state["step"]) * state["exp_inf"]

    def momentum_of(self, group: Group) -> Momentum:
        beta1 = float(group["betas"][0])
        return Momentum(beta1, gain=1 - beta1, symbol="β₁", divisor="(1-β₁)", source=ADAPTIVE)
