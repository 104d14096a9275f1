"""The maximum norm: the geometry of sign gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.geometry import Geometry


@dataclass(frozen=True)
class Linf(Geometry):
    """max_i |d_i|, with dual sum_i |g_i|; the steepest direction is sign(g), 0 where g is 0.

    Where g_i = 0 every d_i in [-1, 1] is as steep, and 0 leaves the parameter unchanged. Normalized steepest descent is
    signSGD.
    """

    any_order: ClassVar[bool] = True

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.linalg.vector_norm(vectors, ord=float("inf"), dim=0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.linalg.vector_norm(gradients, ord=1, dim=0)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return gradients.sign()

    def squared_radius(self, size: int) -> float:
        return float(size)
