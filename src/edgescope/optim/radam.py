"""RAdam as ``torch.optim.RAdam`` steps it: Adam whose preconditioner is left out in the first steps, then rectified."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.optim.adam import AdamRule
from edgescope.optim.held_state import Group
from edgescope.optim.square_root import root


class RAdamRule(AdamRule):
    """m' and v' as in Adam, w' = (1 - eta lambda) w - eta m'/P'.

    With rho_t = rho - 2 t b2^t/(1 - b2^t), rho = 2/(1 - b2) - 1, the preconditioner is

        P = (1 - b1^t) (sqrt(v) + eps) / (sqrt(1 - b2^t) r_t),
        r_t^2 = (rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2) rho_t)

    where rho_t > 5 (at b2 = 0.999 from step 6 on, where r_t is 0.026), and (1 - b1^t) before. Threshold as Adam's.
    """

    kinds = (torch.optim.RAdam,)
    options = frozenset(
        ["lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize", "foreach", "capturable"]
    )

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        step = float(state["step"])
        correction1, correction2 = (1 - beta**step for beta in (beta1, beta2))
        if step == 0:
            return torch.ones_like(state["exp_avg_sq"])
        largest = 2 / (1 - beta2) - 1
        rho = largest - 2 * step * beta2**step / correction2
        if rho <= 5:
            return torch.full_like(state["exp_avg_sq"], correction1)
        squared = (rho - 4) * (rho - 2) * largest / ((largest - 4) * (largest - 2) * rho)
        return correction1 * (root(state["exp_avg_sq"]) + group["eps"]) / (correction2 * squared) ** 0.5
