"""A geometry in rescaled variables: tensors with step sizes of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry.geometry import Geometry, Shapes
from edgescope.geometry.of_tensors import OfTensors


@dataclass(frozen=True)
class Scaled(OfTensors):
    """||d|| = inner(d / c) with one factor c > 0 for each tensor; dual inner*(c g), steepest c inner.steepest(c g).

    Its sharpness is that of C H C in the inner geometry. Steepest descent with learning rate 1 and c = sqrt(lr) is that
    of the inner geometry with one learning rate for each tensor: for the Euclidean norm exactly w - lr g.
    """

    inner: Geometry
    factors: tuple[float, ...]

    def bind(self, shapes: Shapes) -> Self:
        bound = super().bind(shapes)
        if len(bound.known_shapes()) != len(self.factors):
            raise InputError(
                f"{len(self.factors)} factors for {len(bound.known_shapes())} tensors", expected="one for each tensor"
            )
        if not all(math.isfinite(factor) and factor > 0 for factor in self.factors):
            raise InputError(f"factors {self.factors} of a geometry", expected="positive finite numbers")
        object.__setattr__(bound, "inner", self.inner.bind(shapes))
        return bound

    def scale(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        """C times the vectors."""
        pieces = zip(self.factors, self.split(vectors), strict=True)
        return torch.cat([factor * piece for factor, piece in pieces])

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        pieces = zip(self.factors, self.split(vectors), strict=True)
        return self.inner.norm(torch.cat([piece / factor for factor, piece in pieces]))

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return self.inner.dual_norm(self.scale(gradients))

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return self.scale(self.inner.steepest(self.scale(gradients)))

    def descent(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return self.scale(self.inner.descent(self.scale(gradients)))

    def squared_radius(self, size: int) -> float:
        """An upper bound here: the largest factor squared times that of the inner geometry."""
        return max(self.factors) ** 2 * self.inner.squared_radius(size)
