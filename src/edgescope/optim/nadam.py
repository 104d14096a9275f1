"""NAdam as ``torch.optim.NAdam`` steps it: Adam with Nesterov momentum whose weight grows along the run."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.adam import AdamRule
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.square_root import root


class NAdamRule(AdamRule):
    """w' = (1 - eta lambda) w - eta [a_t g + c_t m'] / [sqrt(v'/(1 - b2^t)) + eps], m' and v' as in Adam.

    a_t = (1 - mu_t)/(1 - Pi_t) and c_t = mu_(t+1)/(1 - Pi_(t+1)), with mu_t = b1 (1 - 0.96^(t psi)/2), which grows from
    b1/2 to b1 (psi the ``momentum_decay``), and Pi_t the product of the first t of them.

    The momentum is that of late steps, mu = b1: Gamma = (1 - b1)(1 + 2 b1)/(1 + b1), so that the threshold is
    (2 - eta lambda)(1 + b1)/((1 - b1)(1 + 2 b1) eta), 13.57/eta at b1 = 0.9. What Gamma is at step t, divided by that,
    is a factor of P^-1, as bias corrections are in Adam's: the product of learning rate and sharpness at which
    torch's NAdam is unstable, in the metric sqrt(v) + eps, is 3.9 at step 1,000 and 12.2 at step 20,000.
    """

    kinds = (torch.optim.NAdam,)
    options = frozenset(
        [
            "lr",
            "betas",
            "eps",
            "weight_decay",
            "momentum_decay",
            "decoupled_weight_decay",
            "maximize",
            "foreach",
            "capturable",
        ]
    )

    def numbers(self, group: Group) -> dict[str, float]:
        return {"mu_product": 1.0}

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        gradient = gradient + self.coupled_decay(group) * w
        after = state | {
            "step": state["step"] + 1,
            "mu_product": state["mu_product"] * _weight(group, state["step"] + 1),
            "exp_avg": beta1 * state["exp_avg"] + (1 - beta1) * gradient,
            "exp_avg_sq": beta2 * state["exp_avg_sq"] + (1 - beta2) * gradient * gradient,
        }
        direct, through = _weights(group, after)
        direction = (direct * gradient + through * after["exp_avg"]) / _root(group, after)
        return (1 - lr * self.decoupled_decay(group)) * w - lr * direction, after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        beta1 = float(group["betas"][0])
        direct, through = _weights(group, state)
        gauge = direct + through * (1 - beta1) / (1 + beta1)
        return _root(group, state) * (self.momentum_of(group).gauge / gauge)

    def momentum_of(self, group: Group) -> Momentum:
        beta1 = float(group["betas"][0])
        return Momentum(beta1, 1 - beta1, 1 - beta1, beta1, "β₁", "(1-β₁)(1+2β₁)", ADAPTIVE)


def _weight(group: Group, step: Tensor) -> Tensor:
    """mu at a step, counted from 1."""
    ramp: Tensor = 1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"])
    return float(group["betas"][0]) * ramp


def _weights(group: Group, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """a_t and c_t for the ``state`` after step t; 1 where no step was taken."""
    now, later = _weight(group, state["step"]), _weight(group, state["step"] + 1)
    product = torch.where(state["step"] > 0, state["mu_product"], 0.0)
    return (1 - now) / (1 - product), later / (1 - product * later)


def _root(group: Group, state: dict[str, Tensor]) -> Tensor:
    correction = (1 - float(group["betas"][1]) ** state["step"]) ** 0.5
    return root(state["exp_avg_sq"]) / correction + group["eps"]
