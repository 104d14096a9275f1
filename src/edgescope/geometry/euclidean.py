"""The Euclidean norm: the geometry of gradient descent, whose sharpness is the largest eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.geometry import Geometry
from edgescope.linalg.scaling import lengths_of


@dataclass(frozen=True)
class Euclidean(Geometry):
    """||d||_2, its own dual; the steepest direction is g/||g||_2, so steepest descent is w - lr g."""

    any_order: ClassVar[bool] = True

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return lengths_of(vectors, dim=0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return self.norm(gradients)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return self.to_sphere(gradients)

    def descent(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return gradients

    def squared_radius(self, size: int) -> float:
        return 1.0
