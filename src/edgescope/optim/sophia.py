"""Sophia: steps along averaged gradients over an estimate of the Hessian's diagonal, clipped entry by entry."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.unknown_options import check_present

LIU = f"Liu et al. 2023 (arXiv 2305.14342), frozen preconditioner; {COMPANION}"


class SophiaRule(UpdateRule):
    """m' = b1 m + (1 - b1) g, w' = (1 - eta lambda) w - eta clip(m'/P, -1, 1), with P = rho b h + 1e-15: SophiaG.

    h is the estimate that ``update_hessian()`` makes between steps, and b the batch size that is given to ``step(bs=)``
    and kept nowhere: say it once, as ``optimizer.param_groups[i]["bs"]``. Threshold on P^-1 H, P frozen:
    (2 - eta lambda)(1 + b1)/((1 - b1) eta). An entry whose step is clipped does not respond to small changes of its
    gradient; in the metric it has |m'| for P, the slope at which a step of that length would not be clipped.
    """

    names = ("SophiaG",)
    options = frozenset(["lr", "betas", "rho", "weight_decay", "maximize", "capturable"])
    by_entry = True
    caveat = "entries at which Sophia's step is clipped do not respond to their gradients"

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        self.check(optimizer)
        super().__init__(optimizer, parameters)

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise :class:`NotKnownError` where an option is missing."""
        check_present(optimizer, ("lr", "betas", "rho", "weight_decay"))
        if any("bs" not in group for group in optimizer.param_groups):
            raise NotKnownError(
                f"the batch size of {type(optimizer).__name__} is given to step(bs=...) and kept nowhere",
                hint='optimizer.param_groups[0]["bs"] = the same, for each parameter group',
            )

    def vectors(self) -> tuple[str, ...]:
        return ("exp_avg", "hessian")

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def parts(self, group: Group, state: dict[str, Tensor]) -> tuple[str, Tensor, float]:
        """The name of the momentum, the preconditioner, and the largest step of an entry as a multiple of the rate."""
        return "exp_avg", float(group["rho"]) * float(group["bs"]) * state["hessian"] + 1e-15, 1.0

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, beta1 = float(group["lr"]), float(group["betas"][0])
        name, entries, most = self.parts(group, state)
        mean = beta1 * state[name] + (1 - beta1) * gradient
        moved = (1 - lr * self.decoupled_decay(group)) * w - lr * (mean / entries).clamp(-most, most)
        return moved, state | {"step": state["step"] + 1, name: mean}

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        name, entries, most = self.parts(group, state)
        return torch.maximum(entries, state[name].abs() / most)

    def momentum_of(self, group: Group) -> Momentum:
        beta1 = float(group["betas"][0])
        return Momentum(beta1, gain=1 - beta1, symbol="β₁", divisor="(1-β₁)", source=LIU)


class SophiaHRule(SophiaRule):
    """The same with P = max(h, eps) and steps clipped to p: SophiaH of the package pytorch-optimizer."""

    names = ("pytorch_optimizer.SophiaH",)
    options = frozenset(["lr", "betas", "weight_decay", "weight_decouple", "fixed_decay", "p", "eps", "foreach"])

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        check_present(optimizer, ("lr", "betas", "weight_decay", "p", "eps", "weight_decouple", "fixed_decay"))
        for group in optimizer.param_groups:
            if group["weight_decay"] and (group["fixed_decay"] or not group["weight_decouple"]):
                raise NotKnownError(
                    "the update rule of SophiaH with weight decay that is fixed or coupled is not known"
                )

    def vectors(self) -> tuple[str, ...]:
        return ("momentum", "hessian_moment")

    def parts(self, group: Group, state: dict[str, Tensor]) -> tuple[str, Tensor, float]:
        return "momentum", state["hessian_moment"].clamp(min=group["eps"]), float(group["p"])
