"""The Euclidean norm: the geometry of gradient descent, whose sharpness is the largest eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.geometry import Geometry


@dataclass(frozen=True)
class Euclidean(Geometry):
    """||d||_2, its own dual; the steepest direction is g/||g||_2, so descent is w - lr g."""

    def norm(self, vector: Float[Tensor, " P"]) -> Float[Tensor, ""]:
        return torch.linalg.vector_norm(vector)

    def dual_norm(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, ""]:
        return torch.linalg.vector_norm(gradient)

    def steepest(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        norm = torch.linalg.vector_norm(gradient)
        return gradient / torch.where(norm > 0, norm, 1.0)
