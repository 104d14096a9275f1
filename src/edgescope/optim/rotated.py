"""The metric of preconditioners that are diagonal in a rotated basis of each tensor, dimension by dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.metric import Metric


@dataclass(frozen=True)
class RotatedPiece:
    """P of one tensor: ``entries``, of its shape, in the basis whose vectors are the columns of the ``rotations``.

    One orthogonal matrix for each dimension, None where that is not rotated.
    """

    rotations: tuple[Tensor | None, ...]
    entries: Tensor


def rotate(tensor: Tensor, rotations: Sequence[Tensor | None], *, back: bool = False) -> Tensor:
    """A tensor in the rotated basis, or from it to the original one; further dimensions at the end stay."""
    for dimension, matrix in enumerate(rotations):
        if matrix is not None:
            turned = torch.tensordot(matrix.to(tensor), tensor, dims=([1 if back else 0], [dimension]))
            tensor = turned.movedim(0, dimension)
    return tensor


class RotatedMetric(Metric):
    """M = R diag(entries) R^T tensor by tensor; ``pieces`` None for tensors of constants, of the given ``shapes``."""

    def __init__(self, pieces: Sequence[RotatedPiece | None], shapes: Sequence[torch.Size]) -> None:
        self.pieces, self.shapes = list(pieces), list(shapes)
        self.size = sum(math.prod(shape) for shape in shapes)
        for piece in self.pieces:
            if piece is not None and not bool((torch.isfinite(piece.entries) & (piece.entries > 0)).all()):
                raise InputError("a preconditioner that is not positive definite", expected="positive eigenvalues")

    def inverse_root(self, block: Tensor) -> Tensor:
        return self._apply(block, -0.5)

    def root(self, block: Tensor) -> Tensor:
        return self._apply(block, 0.5)

    def _apply(self, block: Tensor, power: float) -> Tensor:
        parts = block.split([math.prod(shape) for shape in self.shapes])
        results = []
        for part, shape, piece in zip(parts, self.shapes, self.pieces, strict=True):
            if piece is None:
                results.append(torch.zeros_like(part))
                continue
            turned = rotate(part.view(*shape, -1), piece.rotations)
            scaled = turned * (piece.entries.to(block) ** power)[..., None]
            results.append(rotate(scaled, piece.rotations, back=True).reshape(part.shape))
        return torch.cat(results)
