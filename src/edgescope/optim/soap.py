"""SOAP as its authors' file steps it: AdamW in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rotated import RotatedMetric, RotatedPiece, rotate
from edgescope.optim.rule import UpdateRule
from edgescope.optim.square_root import root
from edgescope.optim.unknown_options import check_present
from edgescope.shards import whole

VYAS = f"Vyas et al. 2024 (arXiv 2409.11321), frozen preconditioner and basis; {COMPANION}"
OPTIONS = (
    "lr betas shampoo_beta eps weight_decay precondition_frequency max_precond_dim merge_dims precondition_1d"
    " normalize_grads correct_bias"
)


class SOAPRule(UpdateRule):
    """m' and v' as in Adam, of gradients rotated by Q; w' = (1 - eta lambda)(w - eta Q [m'/P'] Q^T), P' as in Adam.

    Q has a rotation for each dimension of a tensor (None for those that are too long, and for vectors): the
    eigenvectors of running means of g g^T and g^T g, which change every ``precondition_frequency`` steps, after the
    step. Here they are those of the optimizer now: ``update`` gives its next step exactly, and holds the basis beyond.
    The first call only makes the basis, and moves nothing. ``state`` has m and v in the rotated basis, as SOAP does.

    Threshold on (Q P Q^T)^-1 H, P and Q frozen: (2 - eta lambda)(1 + b1)/((1 - b1) eta). The factor 1 - eta lambda
    of a step, which decays after it, is in P^-1. It is for the authors' file soap.py (github.com/nikhilvyas/SOAP),
    without ``merge_dims`` and ``normalize_grads``.
    """

    names = ("SOAP",)
    options = frozenset(OPTIONS.split())

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, self.options)
        super().__init__(optimizer, parameters)
        for option in ("merge_dims", "normalize_grads"):
            if any(group.get(option) for group in self.groups()):
                raise NotKnownError(f"the update rule of {self.name} with {option}=True is not known")

    def vectors(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        moved: list[Tensor] = []
        kept: dict[str, list[Tensor]] = {name: [] for name in (*self.vectors(), "step")}
        each = zip(
            self.tensors, self.groups(), self.split(w), self.split(gradient), self._split_state(state), strict=True
        )
        for tensor, group, piece, slope, own in each:
            basis = self._basis(tensor)
            if basis is not None:
                piece, own = self._step(group, basis, piece, own, slope)
            moved.append(piece.reshape(-1))
            for name, pieces in kept.items():
                pieces.append(own[name].reshape(-1))
        return torch.cat(moved), {name: torch.cat(pieces) for name, pieces in kept.items()}

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        factor = 1.0 - float(group["lr"]) * self.decoupled_decay(group)
        beta1, beta2 = (float(beta) for beta in group["betas"])
        if group["correct_bias"] and float(state["step"]):
            factor *= float((1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"]))
        return (root(state["exp_avg_sq"]) + group["eps"]) / factor

    def assemble(self, scales: list[float], pieces: list[Tensor | None]) -> Metric:
        rotated = []
        for tensor, scale, piece in zip(self.tensors, scales, pieces, strict=True):
            basis = self._basis(tensor)
            known = scale != math.inf and piece is not None and basis is not None
            rotated.append(RotatedPiece(basis, scale * piece) if known else None)  # type: ignore[arg-type,operator]
        return RotatedMetric(rotated, [tensor.shape for tensor in self.tensors])

    def momentum_of(self, group: Group) -> Momentum:
        beta1 = float(group["betas"][0])
        return Momentum(beta1, gain=1 - beta1, symbol="β₁", divisor="(1-β₁)", source=VYAS)

    def _step(
        self, group: Group, basis: tuple[Tensor | None, ...], w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, (beta1, beta2), turned = float(group["lr"]), group["betas"], rotate(gradient, basis)
        after = {
            "step": state["step"] + 1,
            "exp_avg": beta1 * state["exp_avg"] + (1 - beta1) * turned,
            "exp_avg_sq": beta2 * state["exp_avg_sq"] + (1 - beta2) * turned * turned,
        }
        move = rotate(after["exp_avg"] / self.preconditioner(group, after), basis, back=True)
        return (1 - lr * self.decoupled_decay(group)) * w - lr * move, after

    def _basis(self, tensor: Tensor) -> tuple[Tensor | None, ...] | None:
        """The rotations of a tensor's dimensions; None before they are made."""
        found = self._kept(tensor).get("Q")
        if found is None:
            return None
        if len(found) != tensor.ndim:
            raise NotKnownError(f"the basis of {self.name} is not one rotation for each dimension of a tensor")
        return tuple(whole(q) if isinstance(q, Tensor) and q.numel() else None for q in found)
