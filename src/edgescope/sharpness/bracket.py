"""The result of a measurement of generalized sharpness: a lower and an upper bound."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.notebooks import in_notebooks
from edgescope.sharpness.solver_options import Method


@in_notebooks
@dataclass(frozen=True)
class GeneralizedSharpness:
    """``lower <= S <= upper``, S the maximum of d'Hd over ||d|| = 1, in the unit of loss over squared norm.

    ``lower`` is d'Hd at ``direction``, a point of the unit sphere. ``upper`` bounds the maximum over the unit ball,
    which is S, or 0 where S < 0, since the ball contains 0 (Euclidean and Diagonal bound a negative S itself). It holds
    with a probability of at least ``confidence`` over the random start of its eigenvalues (1 where a matrix was
    decomposed), and is infinite where no certificate was asked for or none is known. Both bounds allow for rounding in
    the products, by an estimate of how far it may change a quadratic form: from their asymmetry, and at least
    8 eps ||H||_F.

    ``converged`` says that the search for ``lower`` converged, not that it found the global maximum: the upper bound
    limits how much may be missing. ``lower_products`` and ``upper_products`` are the products spent on each bound.
    ``state`` holds what a later measurement of the same run starts from; ``mode`` is that of the operator.
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
    mode: str | None = None

    @property
    def value(self) -> float:
        return self.lower

    @property
    def error(self) -> float:
        """How much the value may lie below S: a bound, as the bracket is."""
        return self.upper - self.lower

    @property
    def products(self) -> int:
        return self.lower_products + self.upper_products

    @property
    def cost(self) -> Cost:
        return Cost(products=self.products)
