"""Schedule-free gradient descent and AdamW, as the package schedulefree steps them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root
from edgescope.optim.unknown_options import check_present

DEFAZIO = "Defazio et al. 2024 (arXiv 2405.15682); eigenvalue -1 of the companion matrix of one mode"
SHARED = "lr r k warmup_steps train_mode weight_sum lr_max scheduled_lr weight_lr_power weight_decay foreach"


class ScheduleFreeRule(UpdateRule):
    """z' = z - eta d, x' = (1 - c) x + c z', w' = (1 - beta) z' + beta x', d = g(w) + lambda w: schedule-free descent.

    The parameters that train are w ("y" in the paper), and the optimizer keeps z. c is the weight of the next step in
    the average x, 1/(t + 1) without warm-up. As a filter of the gradients that enter w this is
    Q(zeta) = (1 - beta) + beta c zeta/(zeta - (1 - c)): an average with memory 1 - c beside the gradient itself, so
    that the threshold on H + lambda I is 2 (2 - c)/(eta [(1 - beta)(2 - c) + beta c]), late 2/((1 - beta) eta).
    eta grows during the warm-up. Raises :class:`NotKnownError` after ``optimizer.eval()``, where w holds x.
    """

    names = ("schedulefree.SGDScheduleFree",)
    options = frozenset(f"{SHARED} momentum".split())
    by_entry = True

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, set(self.options) - {"foreach", "scheduled_lr", "k"})
        super().__init__(optimizer, parameters)

    def vectors(self) -> tuple[str, ...]:
        return ("z",)

    def numbers(self, group: Group) -> dict[str, float]:
        return {"step": float(group["k"]), "weight_sum": float(group["weight_sum"]), "lr_max": float(group["lr_max"])}

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        kept = super().read(tensor, name)
        return tensor.detach() if kept is None and name == "z" else kept

    def beta(self, group: Group) -> float:
        """The share of the average x in the point at which gradients are taken."""
        return float(group["momentum"])

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def rates(self) -> list[tuple[float, float]]:
        return [
            (lr * _warmed(group, group["k"]), d) for group, (lr, d) in zip(self.groups(), super().rates(), strict=True)
        ]

    def descent(
        self, group: Group, w: Tensor, after: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """d, and what else the state has after the step."""
        return gradient + self.coupled_decay(group) * w, {}

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._check_training()
        beta, lr = self.beta(group), float(group["lr"]) * _warmed(group, float(state["step"]))
        share, after = _averaging(group, lr, state)
        d, more = self.descent(group, w, after, gradient)
        z = state["z"]
        moved = w + share * (z - w) + lr * (beta * (1 - share) - 1) * d
        return moved, after | more | {"z": z - lr * d}

    def momentum_of(self, group: Group) -> Momentum:
        state = {
            name: torch.tensor(value, dtype=torch.float64, device="cpu") for name, value in self.numbers(group).items()
        }
        share = float(_averaging(group, float(group["lr"]) * _warmed(group, group["k"]), state)[0])
        beta, divisor = self.beta(group), "((1-β)(2-c)+βc)"
        return Momentum(1 - share, share, 1 - beta, beta, "(1-c)", divisor, DEFAZIO)

    def check_linear(self) -> None:
        self._check_training()

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        self._check_training()
        return super().scaled_metric(scales, gradient)

    def _check_training(self) -> None:
        if not all(group["train_mode"] for group in self.groups()):
            raise NotKnownError(
                f"the parameters hold the average of {self.name}, not the point at which it takes gradients",
                hint="measuring after optimizer.train()",
            )


class ScheduleFreeAdamWRule(ScheduleFreeRule):
    """The same with d = g/P + lambda w, P = sqrt(v/(1 - b2^t)) + eps and v' = b2 v + (1 - b2) g^2.

    The decay is part of what is averaged, so that in the threshold (2 - eta lambda')/(eta Gamma) it has the factor of
    the gradients: lambda' = Gamma lambda.
    """

    names = ("schedulefree.AdamWScheduleFree",)
    options = frozenset(f"{SHARED} betas eps".split())

    def vectors(self) -> tuple[str, ...]:
        return ("z", "exp_avg_sq")

    def beta(self, group: Group) -> float:
        return float(group["betas"][0])

    def coupled_decay(self, group: Group) -> float:
        return 0.0

    def decoupled_decay(self, group: Group) -> float:
        decay = float(group["weight_decay"])
        return self.momentum_of(group).gauge * decay if decay and float(group["lr"]) else 0.0

    def descent(
        self, group: Group, w: Tensor, after: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        beta2 = float(group["betas"][1])
        square = beta2 * after["exp_avg_sq"] + (1 - beta2) * gradient * gradient
        more = {"exp_avg_sq": square}
        return gradient / self.preconditioner(group, after | more) + float(group["weight_decay"]) * w, more

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        correction = 1 - float(group["betas"][1]) ** state["step"]
        return root(state["exp_avg_sq"]) / correction**0.5 + group["eps"]


def _warmed(group: Group, steps: float) -> float:
    """The factor of the learning rate after that many steps."""
    return (steps + 1) / group["warmup_steps"] if steps < group["warmup_steps"] else 1.0


def _averaging(group: Group, lr: float, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """c of the next step, and the state that it leaves."""
    step, largest = state["step"] + 1, state["lr_max"].clamp(min=lr)
    weight = step ** group["r"] * largest ** group["weight_lr_power"]
    total = state["weight_sum"] + weight
    share = torch.where(total > 0, weight / torch.where(total > 0, total, 1.0), 0.0)
    return share, state | {"step": step, "lr_max": largest, "weight_sum": total}
