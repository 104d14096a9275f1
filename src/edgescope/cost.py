"""What a measurement costs: losses, gradients and curvature products, each over the whole of the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Counts of full passes over the data. ``gradients`` does not include those that a product needs inside.

    A product is one Hessian or Gauss-Newton product with one vector; what it costs in gradients depends on the model
    and the derivative path, is measured once by the objective's probe, and is ``Objective.plan().product_cost``.
    """

    losses: int = 0
    gradients: int = 0
    products: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.losses + other.losses, self.gradients + other.gradients, self.products + other.products)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.losses - other.losses, self.gradients - other.gradients, self.products - other.products)

    def in_gradients(self, product_cost: float = 2.0, loss_cost: float = 1 / 3) -> float:
        """The same in gradient evaluations, given what one product and one loss cost in that unit."""
        return self.losses * loss_cost + self.gradients + self.products * product_cost
