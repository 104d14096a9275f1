"""RMSProp with one second moment for all parameters: the simplest optimizer whose learning rate adapts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.hyperparameters import SHARED, check_group, kept_if_valid, loss_of
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root

SOURCE = "Cohen, Damian et al. 2024, arXiv 2410.24206"


class ScalarRMSProp(torch.optim.Optimizer):
    """v' = alpha v + (1 - alpha) ||g||^2, w' = w - lr g/(sqrt(v') + eps), with one v for all parameters of all groups.

    ``weight_decay`` is coupled (part of g). v starts at 0 and is not corrected for it, as in ``torch.optim.RMSprop``.
    State: ``square_avg``, a number. Groups may differ in learning rate and decay. Raises :class:`InputError` for
    hyper-parameters out of range, for groups whose alpha or eps differ, and for sparse gradients.

    Source: Cohen, Damian et al. 2024 (arXiv 2410.24206), who study it since its dynamics past the threshold is simpler
    than RMSProp's.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group of parameters; refused in one line, and left out, where its options cannot be used."""
        super().add_param_group(param_group)
        with kept_if_valid(self.param_groups) as newest:
            check_group("optimizer ScalarRMSProp", newest, (*SHARED, "alpha", "eps"))
            for name in ("alpha", "eps"):
                values = {float(group[name]) for group in self.param_groups}
                if len(values) > 1:
                    shown = " and ".join(f"{value:g}" for value in sorted(values))
                    raise InputError(f"groups of ScalarRMSProp with {name} of {shown}", expected="one value for all")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure``, where given, computes the loss and its gradient first, and its loss is returned."""
        loss = loss_of(closure)
        moving: list[tuple[Group, Tensor, Tensor]] = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise InputError("ScalarRMSProp with sparse gradients", expected="dense ones", hint="sparse=False")
                moving.append((group, p, p.grad.add(p, alpha=group["weight_decay"])))
        if not moving:
            return loss
        device = moving[0][1].device
        square = torch.stack([g.square().sum().to(device) for _, _, g in moving]).sum()
        for group, p, gradient in moving:
            kept = self.state[p].get("square_avg", torch.zeros((), dtype=p.dtype, device=p.device))
            mean = group["alpha"] * kept + (1 - group["alpha"]) * square.to(p)
            self.state[p]["square_avg"] = mean
            p.sub_(group["lr"] * gradient / (root(mean) + group["eps"]))
        return loss


class ScalarRMSPropRule(UpdateRule):
    """The preconditioner is P = sqrt(v) + eps, the same for all parameters; the threshold on P^-1 (H + lambda I) 2/eta.

    v is a number of the state (``numbers``): one for each tensor, all of them the same.
    """

    kinds = (ScalarRMSProp,)

    def vectors(self) -> tuple[str, ...]:
        return ()

    def numbers(self, group: Group) -> dict[str, float]:
        return {"square_avg": 0.0}

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        if self.others:
            raise NotKnownError(
                f"the second moment of {self.name} has {self.others} parameters in it that are not in the objective",
                hint="an optimizer for the parameters of the objective alone",
            )
        shift = self.shift()
        total = gradient if shift is None else gradient + shift.to(w) * w
        alpha = self.groups()[0]["alpha"]
        mean = alpha * state["square_avg"] + (1 - alpha) * total.square().sum().to(state["square_avg"].dtype)
        after = state | {"square_avg": mean, "step": state["step"] + 1}
        moved = [
            piece - float(group["lr"]) * slope / (root(number) + group["eps"]).to(piece.dtype)
            for group, piece, slope, number in zip(
                self.groups(), self.split(w), self.split(total), mean.unbind(), strict=True
            )
        ]
        return torch.cat([piece.reshape(-1) for piece in moved]), after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        return root(state["square_avg"]) + group["eps"]

    def assemble(self, scales: list[float], pieces: list[Tensor | None]) -> Metric:
        spread: list[Tensor | None] = [
            None if piece is None else piece.to(tensor.dtype).expand(tensor.shape)
            for tensor, piece in zip(self.tensors, pieces, strict=True)
        ]
        return super().assemble(scales, spread)

    def state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """(1 - alpha)/alpha times the distance of the running mean from the total mean square, as for RMSProp."""
        alpha = self.groups()[0]["alpha"]
        mean = state["square_avg"]
        return {"square_avg": (1 - alpha) / alpha * (mean_square.sum() - mean)}

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=SOURCE)
