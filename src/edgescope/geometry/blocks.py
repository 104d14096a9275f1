"""The sum of the Euclidean norms of the parameter tensors: the geometry of greedy block coordinate descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.of_tensors import OfTensors
from edgescope.linalg.scaling import lengths_of


@dataclass(frozen=True)
class Blocks(OfTensors):
    """sum_l ||d_l||_2 over parameter tensors, with dual max_l ||g_l||_2.

    The steepest direction is g_l/||g_l||_2 on the tensor with the largest gradient and 0 on all others; of equally
    large ones it is the first.
    """

    any_order: ClassVar[bool] = True

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return self._lengths(vectors).sum(0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return self._lengths(gradients).amax(0)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        lengths = self._lengths(gradients)
        largest = lengths.amax(0)
        chosen = lengths.argmax(0)
        scale = torch.where(largest == 0, 1.0, largest)
        pieces = self.split(gradients)
        return torch.cat([torch.where(chosen == number, piece / scale, 0.0) for number, piece in enumerate(pieces)])

    def squared_radius(self, size: int) -> float:
        return 1.0

    def _lengths(self, vectors: Tensor) -> Tensor:
        return torch.stack([lengths_of(piece, dim=0) for piece in self.split(vectors)])
