"""Adam and AdamW as torch steps them: bias correction, amsgrad, coupled or decoupled weight decay."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.rule import AVERAGED, UpdateRule
from edgescope.optim.square_root import root


class AdamRule(UpdateRule):
    """m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, w' = (1 - eta lambda) w - eta m'/P'.

    Preconditioner at step t, bias corrections included: P = (1 - b1^t) [sqrt(v/(1 - b2^t)) + eps], with the largest v
    so far for amsgrad. Threshold on P^-1 H, P frozen: (2 + 2 b1)/((1 - b1) eta), that is 38/eta at b1 = 0.9; a
    decoupled decay (AdamW) puts (2 - eta lambda)(1 + b1) in the numerator; a coupled one (Adam) makes H into
    H + lambda I (derivation: :class:`Momentum`).
    """

    kinds: ClassVar[tuple[type[torch.optim.Optimizer], ...]] = (torch.optim.Adam, torch.optim.AdamW)
    by_entry = True

    def vectors(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if self._amsgrad() else ()))

    def keeps(self, group: Group, name: str) -> bool:
        return name != "max_exp_avg_sq" or bool(group.get("amsgrad"))

    def coupled_decay(self, group: Group) -> float:
        return 0.0 if group["decoupled_weight_decay"] else float(group["weight_decay"])

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"]) if group["decoupled_weight_decay"] else 0.0

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        gradient = gradient + self.coupled_decay(group) * w
        after = state | {
            "step": state["step"] + 1,
            "exp_avg": beta1 * state["exp_avg"] + (1 - beta1) * gradient,
            "exp_avg_sq": beta2 * state["exp_avg_sq"] + (1 - beta2) * gradient * gradient,
        }
        if group.get("amsgrad"):
            after["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], after["exp_avg_sq"])
        shrunk = (1 - lr * self.decoupled_decay(group)) * w
        return shrunk - lr * after["exp_avg"] / self.preconditioner(group, after), after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        correction1, correction2 = (1 - beta ** state["step"] for beta in (beta1, beta2))
        square = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
        return correction1 * (root(square) / correction2**0.5 + group["eps"])

    def steady_diagonal(self, state: dict[str, Tensor]) -> Float[Tensor, " P"]:
        shares = [
            (1 - float(group["betas"][0]) ** step).expand(t.numel())
            for group, t, step in zip(self.groups(), self.tensors, state["step"], strict=True)
        ]
        return self.diagonal(state) / torch.cat(shares)

    def state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        if self._amsgrad():
            return super().state_rate(state, mean_square)
        raise NotKnownError(
            f"the averaged dynamics of {self.name} is not known",
            expected=AVERAGED,
            hint="CentralFlow(..., experimental=True), a proposal that was compared with a few runs only",
        )

    def experimental_state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """(1 - b2)/b2 times the distance of v from the mean square, as for RMSProp, and 1 for the count of steps.

        The count is in the bias corrections. It is assumed that the momentum has settled, so that it passes on what
        does not change, and (1 - b1)/(1 + b1) of what alternates; that v has what squares average to; and that the
        oscillation is in equilibrium. Not known for amsgrad.
        """
        if self._amsgrad():
            return super().experimental_state_rate(state, mean_square)
        rates = [
            (1 - group["betas"][1]) / group["betas"][1] * (square - mean)
            for group, square, mean in zip(
                self.groups(), self.split(mean_square), self.split(state["exp_avg_sq"]), strict=True
            )
        ]
        return {
            "exp_avg_sq": torch.cat([rate.reshape(-1) for rate in rates]),
            "step": torch.ones_like(state["step"]),
        }

    def momentum_of(self, group: Group) -> Momentum:
        beta1 = float(group["betas"][0])
        return Momentum(beta1, gain=1 - beta1, symbol="β₁", divisor="(1-β₁)", source=ADAPTIVE)

    def _amsgrad(self) -> bool:
        return any(bool(group.get("amsgrad")) for group in self.groups())
