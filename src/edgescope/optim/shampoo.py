"""Shampoo without momentum, as the packages torch-optimizer and pytorch-optimizer step it."""

from __future__ import annotations

import math
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rotated import RotatedMetric, RotatedPiece
from edgescope.optim.rule import UpdateRule
from edgescope.optim.unknown_options import check_present
from edgescope.shards import whole

GUPTA = f"Gupta et al. 2018 (arXiv 1802.09568), frozen preconditioner; {COMPANION}"


class ShampooRule(UpdateRule):
    """w' = w - eta g contracted with L_k'^(-p) for each dimension k, where L_k' = L_k + outer products of g.

    torch-optimizer has p = 1/(number of dimensions), and adds to L_k what the dimensions before have made of g;
    pytorch-optimizer has half that p and adds g itself. Both recompute the inverse roots every so many steps. The L_k
    are those of the optimizer now: ``update`` gives its next step exactly, and from there on holds them.

    P^-1 is the Kronecker product of the inverse roots. Threshold on P^-1 (H + lambda I), P frozen: 2/eta.

    With momentum none is known: these packages average gradients with what was preconditioned before, so that P enters
    the average again at each step. Raises :class:`NotKnownError` for that, and for decoupled weight decay.
    """

    names = ("torch_optimizer.Shampoo", "pytorch_optimizer.Shampoo")
    options = frozenset(
        ["lr", "momentum", "weight_decay", "epsilon", "matrix_eps", "update_freq", "weight_decouple", "fixed_decay"]
    )

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("lr", "momentum", "weight_decay"))
        super().__init__(optimizer, parameters)
        if any(group["momentum"] for group in self.groups()):
            raise NotKnownError(
                f"the update rule of {self.name} with momentum, which preconditions a gradient again at each step, is"
                " not known",
                expected="momentum=0",
                hint="the measure headroom, which needs no rule",
            )
        if any(group["weight_decay"] and group.get("weight_decouple") for group in self.groups()):
            raise NotKnownError(f"the update rule of {self.name} with decoupled weight decay is not known")

    def vectors(self) -> tuple[str, ...]:
        return ()

    def coupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def number(self, name: str, group: Group, tensor: Tensor) -> float:
        """Steps are counted by parameter group in one of the packages."""
        steps = self._kept(tensor).get("step", group.get("step"))
        return 0.0 if steps is None else float(steps)

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        moved = []
        for i, (group, piece, slope) in enumerate(zip(self.groups(), self.split(w), self.split(gradient), strict=True)):
            driving = (-slope if self.ascends(group) else slope) + self.coupled_decay(group) * piece
            for dimension, matrix in enumerate(self._inverse_roots(i, driving)):
                driving = _contracted(driving, matrix, dimension)
            moved.append((piece - float(group["lr"]) * driving).reshape(-1))
        return torch.cat(moved), {"step": state["step"] + 1}

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric:
        driving: list[Tensor] | list[None] = [None] * len(self.tensors)
        if gradient is not None:
            sign, shift = self.sign(), self.shift()
            w = torch.cat([whole(t).flatten() for t in self.tensors]).to(gradient)
            driving = self.split(sign * gradient if shift is None else sign * gradient + shift.to(w) * w)
        known = [g is not None or bool(self._kept(t)) for g, t in zip(driving, self.tensors, strict=True)]
        if not any(known):
            raise NotKnownError(
                f"the preconditioner of {self.name} is not known before its first step",
                hint="measuring after a step, or giving the gradient at the present point",
            )
        pieces: list[RotatedPiece | None] = []
        for i, (tensor, scale) in enumerate(zip(self.tensors, scales or [1.0] * len(self.tensors), strict=True)):
            if scale == math.inf or not known[i]:
                pieces.append(None)
                continue
            found = [torch.linalg.eigh(matrix.double()) for matrix in self._inverse_roots(i, driving[i])]
            product = reduce(lambda a, b: a[..., None] * b, (values for values, _ in found))
            pieces.append(RotatedPiece(tuple(vectors for _, vectors in found), scale / product.reshape(tensor.shape)))
        return RotatedMetric(pieces, [tensor.shape for tensor in self.tensors])

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=GUPTA)

    def _inverse_roots(self, place: int, gradient: Tensor | None) -> list[Tensor]:
        """The inverse roots of one tensor: of the last step, or of the next one on ``gradient``."""
        tensor, group = self.tensors[place], self.groups()[place]
        kept, names = (
            self._kept(tensor),
            ("precond", "inv_precond") if "epsilon" in group else ("pre_cond", "inv_pre_cond"),
        )
        if gradient is None:
            return [whole(kept[f"{names[1]}_{d}"]) for d in range(tensor.ndim)]
        successive, steps = "epsilon" in group, self.number("step", group, tensor)
        every = group["update_freq"] if successive else self.optimizer.preconditioning_compute_steps  # type: ignore[attr-defined]
        due, power = (steps if successive else steps + 1) % every == 0, (1 if successive else 0.5) / tensor.ndim
        found: list[Tensor] = []
        for d, size in enumerate(tensor.shape):
            if not due:
                old = kept.get(f"{names[1]}_{d}")
                found.append(gradient.new_zeros(size, size) if old is None else whole(old))
                continue
            before = kept.get(f"{names[0]}_{d}")
            start = group["epsilon" if successive else "matrix_eps"] * torch.eye(
                size, dtype=gradient.dtype, device=gradient.device
            )
            rows = gradient.movedim(d, 0).reshape(size, -1)
            values, vectors = torch.linalg.eigh((start if before is None else whole(before)) + rows @ rows.T)
            found.append((vectors * values**-power) @ vectors.T)
            gradient = _contracted(gradient, found[-1], d) if successive else gradient
        return found


def _contracted(tensor: Tensor, matrix: Tensor, dimension: int) -> Tensor:
    return torch.tensordot(matrix.to(tensor), tensor, dims=([1], [dimension])).movedim(0, dimension)
