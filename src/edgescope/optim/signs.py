"""Optimizers that step by signs of gradients, Rprop, Lion, Signum: their steps are known, a threshold is not."""

from __future__ import annotations

import torch
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.geometry import Linf
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.threshold import Threshold
from edgescope.optim.unknown_options import check_present

HEADROOM = "the measure headroom, which needs no threshold"
BERNSTEIN = "Bernstein et al. 2018 (arXiv 1802.04434), the geometry Linf"


class SignRule(UpdateRule):
    """A rule without a preconditioner: the step does not scale with the gradient, so that no eigenvalue decides."""

    by_entry = True
    why = "its step has the same length whatever the curvature, so that no eigenvalue decides on stability"

    def check_linear(self) -> None:
        raise NotKnownError(f"the threshold of {self.name} is not known: {self.why}", hint=HEADROOM)

    def momentum_of(self, group: Group) -> Momentum:
        raise NotKnownError(f"the threshold of {self.name} is not known: {self.why}", hint=HEADROOM)


class RpropRule(SignRule):
    """Each entry steps by a size of its own against the sign of its gradient; the size grows until the sign changes."""

    kinds = (torch.optim.Rprop,)
    options = frozenset(["lr", "etas", "step_sizes", "maximize", "foreach", "capturable"])
    why = "every entry has a step size of its own, which follows the signs of its gradients"

    def vectors(self) -> tuple[str, ...]:
        return ("prev", "step_size")

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        kept = super().read(tensor, name)
        if kept is None and name == "step_size":
            group = self.groups()[next(i for i, own in enumerate(self.tensors) if own is tensor)]
            return torch.full_like(tensor, float(group["lr"]))
        return kept

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        (smaller, larger), agreement = group["etas"], gradient * state["prev"]
        factor = torch.where(agreement > 0, larger, torch.where(agreement < 0, smaller, 1.0))
        size = (state["step_size"] * factor).clamp(*group["step_sizes"])
        used = torch.where(agreement < 0, 0.0, gradient)
        return w - used.sign() * size, state | {"prev": used, "step_size": size}


class LionRule(SignRule):
    """w' = (1 - eta lambda) w - eta sign(b1 m + (1 - b1) g), m' = b2 m + (1 - b2) g (Chen et al. 2023, 2302.06675).

    As :class:`edgescope.optim.Lion` steps it, lion-pytorch, and copies of that: with ``betas``, and ``exp_avg`` in the
    state.
    """

    names = ("Lion",)
    options = frozenset(["lr", "betas", "weight_decay", "weight_decouple", "foreach", "maximize"])

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("lr", "betas", "weight_decay"))
        super().__init__(optimizer, parameters)

    def vectors(self) -> tuple[str, ...]:
        return ("exp_avg",)

    def decoupled_decay(self, group: Group) -> float:
        decay = float(group["weight_decay"])
        return decay / self.optimizer._init_lr if getattr(self.optimizer, "decoupled_wd", False) else decay  # type: ignore[attr-defined]

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, (beta1, beta2), m = float(group["lr"]), group["betas"], state["exp_avg"]
        step = (beta1 * m + (1 - beta1) * gradient).sign()
        return (1 - lr * self.decoupled_decay(group)) * w - lr * step, state | {
            "exp_avg": beta2 * m + (1 - beta2) * gradient
        }


class SignumRule(SignRule):
    """b' = beta b + (1 - beta) g, w' = (1 - eta lambda) w - eta sign(b') (Bernstein et al. 2018, arXiv 1802.04434).

    Without momentum this is normalized steepest descent in the geometry Linf, and the generalized sharpness decides:
    the threshold is (2 - eta lambda) ||g||_1 / eta. With momentum none is known.
    """

    names = ("Signum", "SignSGD")
    options = frozenset(["lr", "momentum", "weight_decay", "weight_decouple", "foreach", "maximize"])
    why = "with momentum the sign is that of an average of gradients, so that no eigenvalue decides on stability"

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("lr", "momentum"))
        super().__init__(optimizer, parameters)
        if any(group.get("weight_decay") and not group.get("weight_decouple", True) for group in self.groups()):
            raise NotKnownError(f"the update rule of {self.name} with weight decay in the gradient is not known")

    def vectors(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if any(group["momentum"] for group in self.groups()) else ()

    def keeps(self, group: Group, name: str) -> bool:
        return bool(group["momentum"])

    def decoupled_decay(self, group: Group) -> float:
        return float(group.get("weight_decay", 0.0))

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, beta = float(group["lr"]), float(group["momentum"])
        if beta:
            gradient = beta * state["momentum_buffer"] + (1 - beta) * gradient
            state = state | {"momentum_buffer": gradient}
        return (1 - lr * self.decoupled_decay(group)) * w - lr * gradient.sign(), state

    def threshold(self) -> Threshold:
        if any(group["momentum"] for group in self.groups()):
            self.check_linear()
        if self.others or len(set(self.rates())) > 1 or self.sign() < 0:
            raise NotKnownError(
                f"no threshold is known for {self.name} where learning rates differ, or with further parameters",
                hint=HEADROOM,
            )
        value, formula = Momentum().threshold(*self.rates()[0])
        geometry = Linf().bind([tuple(tensor.shape) for tensor in self.tensors])
        return Threshold(value, f"{formula}, of sharpness over dual gradient norm", BERNSTEIN, geometry, True)
