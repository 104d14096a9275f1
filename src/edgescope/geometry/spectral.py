"""The largest operator norm of the parameter tensors: the geometry of orthogonalised gradient descent (Muon)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.of_tensors import OfTensors
from edgescope.geometry.polar import MAX_STEPS, Method, polar_factor, polar_share, singular_values
from edgescope.options import check_fields, integer


@dataclass(frozen=True)
class Spectral(OfTensors):
    """max_l ||W_l||_op over parameter tensors, with dual sum_l ||G_l||_nuclear; steepest is U V^T in each of them.

    Matrices are first dimension x rest, so a convolution is out x (in, height, width); vectors and scalars are one
    column. Singular values below max(m, n) eps s_max count as zero and are not moved along, so a zero tensor stays.

    ``polar`` computes the factor exactly (``"svd"``) or by ``steps`` of matrix products, whose direction lies in the
    unit ball but attains only a ``share`` of the dual norm. The dual norm is always exact. Cost of a direction or a
    norm: one singular value decomposition a matrix, O(m n min(m, n)).
    """

    polar: Method = "svd"
    steps: int = 5

    any_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, "geometry 'spectral'", steps=integer(1, MAX_STEPS))

    @property
    def share(self) -> float:
        """What the direction attains of the dual norm, for singular values above 0.001 of the Frobenius norm."""
        return polar_share(self.polar, self.steps)

    def sides(self) -> list[tuple[int, int]]:
        """Each tensor as a matrix: its rows and columns."""
        return [(shape[0], math.prod(shape[1:])) if shape else (1, 1) for shape in self.known_shapes()]

    def matrices(self, vectors: Float[Tensor, " P *k"]) -> list[Tensor]:
        """The tensors of each vector as matrices (*k, rows, columns)."""
        pieces = zip(self.split(vectors), self.sides(), strict=True)
        return [torch.movedim(piece.unflatten(0, side), (0, 1), (-2, -1)) for piece, side in pieces]

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.stack([singular_values(matrix).amax(-1) for matrix in self.matrices(vectors)]).amax(0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.stack([singular_values(matrix).sum(-1) for matrix in self.matrices(gradients)]).sum(0)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        factors = [polar_factor(matrix, self.polar, self.steps) for matrix in self.matrices(gradients)]
        return torch.cat([torch.movedim(factor, (-2, -1), (0, 1)).flatten(0, 1) for factor in factors])

    def squared_radius(self, size: int) -> float:
        return float(sum(min(side) for side in self.sides()))
