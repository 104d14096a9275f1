"""A piecewise linear function on a ball."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.data.synthetic import Synthetic


@dataclass(frozen=True)
class Ball(Synthetic):
    """x uniform in the ball of radius sqrt(dim), y = |x_1| - |x_2| (Wen, Li, Ma 2023, figure 7; there dim is 10).

    The population error is the mean squared error; that of f = 0 is 2 d/(d + 2) (1 - 2/pi).
    """

    name: ClassVar[str] = "ball"
    what: ClassVar[str] = "x uniform in the ball of radius sqrt(d), y = |x_1| - |x_2|"
    quantity: ClassVar[str] = "mean squared error"

    dim: int = 10

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count dim"], Float[Tensor, "count 1"]]:
        directions = torch.randn(count, self.dim, generator=generator, device="cpu")
        lengths = math.sqrt(self.dim) * torch.rand(count, 1, generator=generator, device="cpu") ** (1 / self.dim)
        inputs = lengths * directions / directions.norm(dim=1, keepdim=True)
        return inputs, self.target(inputs)

    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N 1"]:
        return inputs[:, :1].abs() - inputs[:, 1:2].abs()

    def errors(self, outputs: Float[Tensor, "N 1"], targets: Float[Tensor, "N 1"]) -> Float[Tensor, "N 1"]:
        return (outputs - targets).square()
