"""Shampoo without momentum, as the packages torch-optimizer and pytorch-optimizer step it."""

from __future__ import annotations

import math
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg.metric import Metric
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rotated import RotatedMetric, RotatedPiece
from edgescope.optim.rule import Group, UpdateRule
from edgescope.optim.unknown_options import check_present
from edgescope.shards import whole

GUPTA = f"Gupta et al. 2018 (arXiv 1802.09568), frozen preconditioner; {COMPANION}"


class ShampooRule(UpdateRule):
    """w' = w - eta g contracted with a matrix for each dimension: inverse roots of sums of outer products of gradients.

    P^-1 is the Kronecker product of these matrices, as the optimizer keeps them after its step (``inv_precond_0``, ...).
    Threshold on P^-1 (H + lambda I), P frozen: 2/eta. ``update`` holds P, which the gradient of a step changes first.

    With momentum none is known: these packages average gradients with what was preconditioned before, so that P enters
    the average again at each step. Raises :class:`NotKnownError` for that, and for Shampoo of other packages.
    """

    names = ("torch_optimizer.Shampoo", "pytorch_optimizer.Shampoo")
    options = frozenset(["lr", "momentum", "weight_decay", "epsilon", "matrix_eps", "update_freq", "weight_decouple", "fixed_decay"])

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

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        moved = []
        for tensor, group, piece, slope in zip(
            self.tensors, self.groups(), self.split(w), self.split(gradient), strict=True
        ):
            matrices = self._inverse_roots(tensor)
            driving = (-slope if self.ascends(group) else slope) + self.coupled_decay(group) * piece
            for dimension, matrix in enumerate(matrices):
                turned = torch.tensordot(matrix.to(driving), driving, dims=([1], [dimension]))
                driving = turned.movedim(0, dimension)
            moved.append((piece - float(group["lr"]) * driving).reshape(-1))
        return torch.cat(moved), {"step": state["step"] + 1}

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor | None:
        return torch.ones(())  # there is one; ``assemble`` reads it

    def assemble(self, scales: list[float], pieces: list[Tensor | None]) -> Metric:
        rotated: list[RotatedPiece | None] = []
        for tensor, scale in zip(self.tensors, scales, strict=True):
            if scale == math.inf:
                rotated.append(None)
                continue
            values, vectors = zip(*(torch.linalg.eigh(m.double()) for m in self._inverse_roots(tensor)), strict=True)
            product = reduce(lambda a, b: a[..., None] * b, values)
            rotated.append(RotatedPiece(tuple(vectors), scale / product.reshape(tensor.shape)))
        return RotatedMetric(rotated, [tensor.shape for tensor in self.tensors])

    def momentum_of(self, group: Group) -> Momentum:
        return Momentum(source=GUPTA)

    def _inverse_roots(self, tensor: Tensor) -> list[Tensor]:
        kept = self._kept(tensor)
        found = [kept.get(f"inv_precond_{d}", kept.get(f"inv_pre_cond_{d}")) for d in range(tensor.ndim)]
        matrices = [whole(matrix) for matrix in found if isinstance(matrix, Tensor)]
        if len(matrices) < tensor.ndim:
            raise NotKnownError(
                f"the preconditioner of {self.name} is not known before its first step", hint="measuring after a step"
            )
        return matrices
