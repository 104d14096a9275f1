"""What a measurement of generalized sharpness asks for, and what it gives: a value from below and one from above."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.linalg import Operator

Method = Literal["ascent", "frank-wolfe"]

FAILURE = 1e-3  # the chance that a bound may fail with


@dataclass(frozen=True)
class GeneralizedSharpness:
    """``lower <= S <= upper``, S the maximum of d'Hd over ||d|| = 1, in the unit of loss over squared norm.

    ``lower`` is d'Hd at ``direction``, a point of the sphere. ``upper`` bounds the maximum over the ball: S, or 0 where
    S < 0, for the ball holds 0 (Euclidean and Diagonal bound a negative S itself). It holds with a chance of at least
    ``confidence`` over the random start of its eigenvalues (1 where a matrix was decomposed), and is infinite where no
    certificate was asked for or none is known.

    ``converged`` says that the search for ``lower`` came to rest, not that it found the highest point: the bracket says
    how much may be missing. ``lower_products`` and ``upper_products`` are what each end took. ``state`` holds what a
    later measurement of the same run starts from.
    """

    lower: float
    upper: float
    confidence: float
    direction: Float[Tensor, " P"]
    converged: bool
    method: Method
    lower_products: int
    upper_products: int
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    @property
    def value(self) -> float:
        return self.lower

    @property
    def error(self) -> float:
        """How much the value may lie below S."""
        return self.upper - self.lower

    @property
    def products(self) -> int:
        return self.lower_products + self.upper_products

    @property
    def cost(self) -> Cost:
        return Cost(products=self.products)


@dataclass(frozen=True)
class Asked:
    """The arguments of a measurement, checked; ``memory`` is the state of an earlier one, or empty."""

    operator: Operator
    restarts: int
    iterations: int
    seed: int
    gradient: Float[Tensor, " P"] | None
    certificate: bool
    tol: float
    method: Method
    memory: dict[str, Tensor]

    def recalled(self, name: str, *shape: int) -> Tensor | None:
        """A tensor of an earlier result, in the operator's precision, if it is there and of this shape."""
        tensor = self.memory.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            return None
        return tensor.to(self.operator.device, self.operator.dtype)

    def random(self, columns: int) -> Float[Tensor, "P k"]:
        """Gaussian vectors."""
        generator = torch.Generator().manual_seed(self.seed)
        draw = torch.randn(self.operator.size, columns, generator=generator, dtype=self.operator.dtype)
        return draw.to(self.operator.device)
