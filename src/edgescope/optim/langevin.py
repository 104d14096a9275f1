"""Langevin dynamics: gradient steps with isotropic noise of a chosen temperature, which samples the Gibbs measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgescope.optim.hyperparameters import SHARED, check_group, kept_if_valid


class Langevin(torch.optim.SGD):
    """w' = w - lr (g + weight_decay w) + sqrt(2 lr temperature) N(0, 1), with g the gradient that the caller left.

    With full-batch gradients and small steps it samples exp(-(L + weight_decay/2 ||w||^2) / temperature), and escapes
    over a barrier after a time that grows as exp(barrier / temperature), as steps times lr: unlike mini-batch noise,
    this noise does not vanish where the gradient does. Mini-batch gradients add noise of their own: of variance s^2 in
    each weight it has the temperature lr s^2 / 2.

    ``lr`` and ``temperature`` may differ between parameter groups. ``generator`` draws the noise (torch's global one
    otherwise), on its own device. Raises :class:`InputError` for a temperature that is not positive and finite. Cost:
    that of SGD and one normal number a weight. Its update rule is that of gradient descent, the mean of its steps.

    Source: Welling and Teh 2011 (stochastic gradient Langevin dynamics), with the temperature written out.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        temperature: float,
        weight_decay: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        check_group("optimizer Langevin", {"lr": lr, "weight_decay": weight_decay})
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.generator = generator
        self.defaults["temperature"] = temperature
        for group in self.param_groups:
            group.setdefault("temperature", temperature)
            check_group("optimizer Langevin", group, (*SHARED, "temperature"))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group of parameters; refused in one line, and left out, where its options cannot be used."""
        super().add_param_group(param_group)
        with kept_if_valid(self.param_groups) as group:
            check_group("optimizer Langevin", group, (*SHARED, "temperature"))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure``, where given, computes the loss and its gradient first."""
        loss = super().step(closure)
        for group in self.param_groups:
            size = math.sqrt(2 * group["lr"] * group["temperature"])
            for tensor in group["params"]:
                if tensor.grad is not None:
                    tensor.add_(self._normal(tensor), alpha=size)
        return loss

    def _normal(self, like: Tensor) -> Tensor:
        device = like.device if self.generator is None else self.generator.device
        drawn = torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=device)
        return drawn.to(like.device)
