"""The options of one measurement of generalized sharpness, checked, and what an earlier one left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg import Operator

Method = Literal["ascent", "frank-wolfe"]

FAILURE_PROBABILITY: Final = 1e-3
"""The probability that an upper bound may fail with, over the random start of its eigenvalues."""


@dataclass(frozen=True)
class SolverOptions:
    """The arguments of a measurement, checked; ``previous`` is the state of an earlier one, or empty."""

    operator: Operator
    restarts: int
    iterations: int
    seed: int
    gradient: Float[Tensor, " P"] | None
    certificate: bool
    tol: float
    method: Method
    previous: dict[str, Tensor]

    def from_previous(self, name: str, *shape: int) -> Tensor | None:
        """A tensor of the earlier state, in the operator's precision; None where it is missing or of another shape."""
        tensor = self.previous.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            return None
        return tensor.to(self.operator.device, self.operator.dtype)

    def random(self, columns: int) -> Float[Tensor, "P k"]:
        """Gaussian vectors."""
        generator = torch.Generator().manual_seed(self.seed)
        draw = torch.randn(self.operator.size, columns, generator=generator, dtype=self.operator.dtype, device="cpu")
        return draw.to(self.operator.device)
