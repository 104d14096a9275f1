"""Adagrad as ``torch.optim.Adagrad`` steps it: dense gradients, a learning rate that decays, L2 decay."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root


class AdagradRule(UpdateRule):
    """s' = s + g^2, w' = w - eta g/P' with P = (sqrt(s) + eps)(1 + (t - 1) d), d the ``lr_decay``.

    Threshold on P^-1 (H + lambda I), P frozen: 2/eta.
    """

    kinds = (torch.optim.Adagrad,)
    options = frozenset(
        [
            "lr",
            "lr_decay",
            "eps",
            "weight_decay",
            "initial_accumulator_value",
            "maximize",
            "foreach",
            "fused",
            "differentiable",
        ]
    )
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("sum",)

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gradient = gradient + self.coupled_decay(group) * w
        after = state | {"step": state["step"] + 1, "sum": state["sum"] + gradient * gradient}
        return w - float(group["lr"]) * gradient / self.preconditioner(group, after), after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        return (root(state["sum"]) + group["eps"]) * (1 + (state["step"] - 1) * group["lr_decay"])

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=ADAPTIVE)
