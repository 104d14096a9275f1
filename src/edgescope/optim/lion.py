"""Lion: steps by the sign of an average of gradients, with another average kept for the next steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.optim.hyperparameters import SHARED, check_group, kept_if_valid, loss_of


class Lion(torch.optim.Optimizer):
    """w' = (1 - lr weight_decay) w - lr sign(b1 m + (1 - b1) g), then m' = b2 m + (1 - b2) g; ``betas`` are b1 and b2.

    Every entry moves by lr, whatever the size of its gradient, so that usual learning rates are some ten times smaller
    than those of Adam. An entry whose average is 0 is only decayed. State: ``exp_avg``, one copy of the parameters.
    Raises :class:`InputError` for hyper-parameters out of range, and for sparse gradients.

    Source: Chen et al. 2023 (arXiv 2302.06675), algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group of parameters; refused in one line, and left out, where its options cannot be used."""
        super().add_param_group(param_group)
        with kept_if_valid(self.param_groups) as group:
            check_group("optimizer Lion", group, (*SHARED, "betas"))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure``, where given, computes the loss and its gradient first, and its loss is returned."""
        loss = loss_of(closure)
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise InputError("Lion with sparse gradients", expected="dense ones", hint="sparse=False")
                state = self.state[p]
                if "exp_avg" not in state:
                    state["exp_avg"] = torch.zeros_like(p)
                average: Tensor = state["exp_avg"]
                direction = average.mul(beta1).add_(p.grad, alpha=1 - beta1).sign_()
                p.mul_(1 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
                average.mul_(beta2).add_(p.grad, alpha=1 - beta2)
        return loss
