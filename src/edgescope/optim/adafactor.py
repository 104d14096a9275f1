"""Adafactor as ``torch.optim.Adafactor`` steps it: factored second moments, relative steps, clipped updates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import Momentum
from edgescope.optim.rmsprop import ADAPTIVE
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root
from edgescope.shards import whole


class AdafactorRule(UpdateRule):
    """w' = (1 - eta lambda) w - alpha u, u = g/sqrt(v'), alpha = max(eps2, RMS w) min(eta, t^(-1/2))/max(1, RMS(u)/d).

    v is a running mean of g^2 with memory 1 - t^(beta2_decay); of tensors of two and more dimensions torch keeps its
    means over rows and columns, R and C, and v = R C/mean(R). In ``state`` these are written out in the tensor's shape.

    Preconditioner P = (eta/alpha) sqrt(v), so that the threshold on P^-1 H, P frozen, is (2 - eta lambda)/eta, that is
    2/alpha in the metric sqrt(v). It depends on the gradient of the step: where that is not given, it is the one that
    the tensors have as ``grad``, and :class:`NotKnownError` is raised where they have none.
    """

    kinds = (torch.optim.Adafactor,)
    options = frozenset(["lr", "beta2_decay", "eps", "d", "weight_decay", "maximize", "foreach"])

    def vectors(self) -> tuple[str, ...]:
        factored = [tensor.ndim > 1 for tensor in self.tensors]
        return (*(("row_var", "col_var") if any(factored) else ()), *(() if all(factored) else ("variance",)))

    def layout(self) -> dict[str, list[bool]]:
        kept = {name: [(t.ndim > 1) is (name != "variance") for t in self.tensors] for name in self.vectors()}
        return {"parameters": self.held} | kept

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        kept = super().read(tensor, name)
        return None if kept is None else whole(kept).expand(tensor.shape)

    def numbers(self, group: Group) -> dict[str, float]:
        return {"rate": 1.0}

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def number(self, name: str, group: Group, tensor: Tensor) -> float:
        """Also alpha/eta of the last step, from the parameters as they are now and the live gradient; NaN without."""
        if name != "rate":
            return super().number(name, group, tensor)
        if tensor.grad is None or not self._kept(tensor):
            return math.nan
        own = {n: value for n in ("row_var", "col_var", "variance") if (value := self.read(tensor, n)) is not None}
        step = torch.tensor(super().number("step", group, tensor), dtype=torch.float64, device="cpu")
        return float(_rate(group, tensor.detach(), own | {"step": step}, tensor.grad.detach()))

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, step, square = float(group["lr"]), state["step"] + 1, gradient * gradient
        share, after = step ** group["beta2_decay"], state | {"step": step}

        def mixed(name: str, value: Tensor) -> Tensor:
            return (state[name] + share * (value - state[name])).expand(w.shape)

        if w.ndim > 1:
            row, column = square.mean(dim=-1, keepdim=True), square.mean(dim=-2, keepdim=True)
            after |= {"row_var": mixed("row_var", row), "col_var": mixed("col_var", column)}
        else:
            after |= {"variance": mixed("variance", square)}
        after["rate"] = _rate(group, w, after, gradient)
        moved = (1 - lr * self.decoupled_decay(group)) * w - lr * after["rate"] * gradient / _root(
            group, after, w.ndim > 1
        )
        return moved, after

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        factored = next(value.ndim for name, value in state.items() if name in self.vectors()) > 1
        return _root(group, state, factored) / state["rate"]

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        if gradient is None:
            state = self.state()
            if bool((state["step"] > 0).any()) and bool(state["rate"].isnan()[state["step"] > 0].any()):
                raise NotKnownError(
                    "the preconditioner of Adafactor depends on the gradient of the step, which is not there any more",
                    hint="measuring before gradients are cleared, or giving the gradient at the present point",
                )
        return super().scaled_metric(scales, gradient)

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=ADAPTIVE)


def _first_eps(group: Group) -> float:
    eps = group["eps"][0]
    return float(torch.finfo(group["params"][0].dtype).eps) if eps is None else float(eps)


def _root(group: Group, state: dict[str, Tensor], factored: bool) -> Tensor:
    """The square root of the second moments, in the tensor's shape."""
    eps = _first_eps(group)
    if factored:
        row, column = state["row_var"][..., :1], state["col_var"][..., :1, :]
        square = row * column / row.mean(dim=-2, keepdim=True).clamp(min=eps)
    else:
        square = state["variance"]
    return square.clamp(min=eps * eps).sqrt()


def _rate(group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor) -> Tensor:
    """alpha/eta of the step that led to ``state``, from the parameters before it."""
    lr, size = float(group["lr"]), root((w * w).mean()).clamp(min=group["eps"][1])
    share = 1.0 if lr == 0 else (1 / state["step"] ** 0.5).clamp(max=lr) / lr
    update = gradient / _root(group, state, w.ndim > 1)
    return size * share / (root((update * update).mean()) / group["d"]).clamp(min=1)
