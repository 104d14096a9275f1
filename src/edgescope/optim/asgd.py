"""Averaged gradient descent as ``torch.optim.ASGD`` steps it: a rate of its own that decays, and an average beside."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sgd import GRADIENT_DESCENT


class ASGDRule(UpdateRule):
    """w' = (1 - lambda eta_t) w - eta_t g, with the average a' = a + mu_t (w' - a) beside it, which enters no step.

    lambda is ``lambd``, and eta_(t+1) = lr/(1 + lambda lr t)^alpha, which torch keeps as ``eta`` in its state: the rate
    of the next step. Threshold on H + decay: (2 - lambda eta_t)/eta_t, for each tensor with its own eta_t.
    """

    kinds = (torch.optim.ASGD,)
    options = frozenset(["lr", "lambd", "alpha", "t0", "weight_decay", "maximize", "foreach", "capturable"])
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("ax",)

    def numbers(self, group: Group) -> dict[str, float]:
        return {"eta": float(group["lr"]), "mu": 1.0}

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def decoupled_decay(self, group: Group) -> float:
        return float(group["lambd"])

    def rates(self) -> list[tuple[float, float]]:
        checked = super().rates()
        each = zip(self.groups(), self.tensors, checked, strict=True)
        return [(self.number("eta", group, tensor), decay) for group, tensor, (_, decay) in each]

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, lambd, eta, step = float(group["lr"]), group["lambd"], state["eta"], state["step"] + 1
        gradient = gradient + self.coupled_decay(group) * w
        moved = (1 - lambd * eta) * w - eta * gradient
        return moved, state | {
            "step": step,
            "ax": state["ax"] + state["mu"] * (moved - state["ax"]),
            "eta": lr / (1 + lambd * lr * step) ** group["alpha"],
            "mu": 1 / torch.clamp(step - group["t0"], min=1),
        }

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=GRADIENT_DESCENT)
