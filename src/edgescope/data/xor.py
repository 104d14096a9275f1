"""The exclusive or of two signs among many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.data.synthetic import Synthetic


@dataclass(frozen=True)
class XOR(Synthetic):
    """x uniform on {-1, 1}^dim, y = x_1 x_2 (Wen, Li, Ma 2023, arXiv 2307.11007; the paper has dim 30, train 100).

    The population error is the share of inputs with the wrong sign; an output of 0 is wrong.
    """

    name: ClassVar[str] = "xor"
    what: ClassVar[str] = "x uniform on the hypercube {-1, 1}^d, y = x_1 x_2"
    quantity: ClassVar[str] = "share of inputs with the wrong sign"

    dim: int = 30

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count dim"], Float[Tensor, "count 1"]]:
        inputs = 2.0 * torch.randint(2, (count, self.dim), generator=generator, device="cpu") - 1
        return inputs, self.target(inputs)

    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N 1"]:
        return inputs[:, :1] * inputs[:, 1:2]

    def errors(self, outputs: Float[Tensor, "N 1"], targets: Float[Tensor, "N 1"]) -> Bool[Tensor, "N 1"]:
        return ~(outputs * targets > 0)

    def everything(self, most: int) -> Float[Tensor, "N dim"] | None:
        if 2**self.dim > most:
            return None
        numbers = torch.arange(2**self.dim, device="cpu")[:, None]
        return 2.0 * ((numbers >> torch.arange(self.dim, device="cpu")) & 1) - 1
