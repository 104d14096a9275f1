"""Adadelta as ``torch.optim.Adadelta`` steps it."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.rule import UpdateRule


class AdadeltaRule(UpdateRule):
    """v' = r v + (1 - r) g^2, w' = w - eta d, d = g sqrt(a + eps)/sqrt(v' + eps), a' = r a + (1 - r) d^2.

    Preconditioner P = sqrt(v' + eps)/sqrt(a + eps), of a from before the step; where the gradient of the step is not
    known, of a from after it. Threshold on P^-1 (H + lambda I), P frozen: 2/eta.
    """

    kinds = (torch.optim.Adadelta,)
    options = frozenset(["lr", "rho", "eps", "weight_decay", "maximize", "foreach", "capturable"])
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rho, eps = group["rho"], group["eps"]
        gradient = gradient + self.coupled_decay(group) * w
        square = rho * state["square_avg"] + (1 - rho) * gradient * gradient
        delta = gradient * (state["acc_delta"] + eps).sqrt() / (square + eps).sqrt()
        after = {"square_avg": square, "acc_delta": rho * state["acc_delta"] + (1 - rho) * delta * delta}
        return w - float(group["lr"]) * delta, state | after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        rho, eps = group["rho"], group["eps"]
        square, before = state["square_avg"] + eps, state["acc_delta"]
        if gradient is not None:  # a' = r a + (1 - r) (a + eps) q, solved for a
            q = (1 - rho) * gradient * gradient / square
            before = torch.where(rho + q > 0, (before - eps * q) / torch.where(rho + q > 0, rho + q, 1.0), before)
        return square.sqrt() / (before.clamp(min=0) + eps).sqrt()

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=ADAPTIVE)
