"""The cost of a measurement: numbers of losses, gradients and curvature products, each over all data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Numbers of losses, gradients and curvature products, each a pass over all data.

    A product is one Hessian or Gauss-Newton product with one vector. The gradients computed inside a product are not
    counted in ``gradients``. How many gradients a product is worth depends on the model and the derivative path; the
    objective measures it once, as ``Objective.plan().product_cost``.

    ``preparation`` is what checks of the loss and its derivatives and timings of paths have evaluated, in gradients:
    passes over shares of the data, where a loss counts a third and a product two, and all twice in double the
    precision.
    """

    losses: int = 0
    gradients: int = 0
    products: int = 0
    preparation: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.losses + other.losses,
            self.gradients + other.gradients,
            self.products + other.products,
            self.preparation + other.preparation,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.losses - other.losses,
            self.gradients - other.gradients,
            self.products - other.products,
            self.preparation - other.preparation,
        )

    def in_gradients(self, product_cost: float = 2.0, loss_cost: float = 1 / 3) -> float:
        """The cost in gradient evaluations, given the cost of one product and of one loss in that unit."""
        return self.losses * loss_cost + self.gradients + self.products * product_cost + self.preparation


def in_passes(cost: Cost, share: float) -> Cost:
    """A cost in passes over a ``share`` of the data, converted to passes over all data and rounded up."""
    losses, gradients, products = (
        math.ceil(share * count - 1e-9) for count in (cost.losses, cost.gradients, cost.products)
    )
    return Cost(losses, gradients, products, share * cost.preparation)


class Meter:
    """The only counter of what is spent: an objective owns one, and whatever passes over its data counts there."""

    def __init__(self) -> None:
        self._total = Cost()
        self._made, self._construction = time.perf_counter(), 0.0

    def constructed(self) -> None:
        """Its owner is complete: what has passed since this was made is the time of the construction."""
        self._construction = time.perf_counter() - self._made

    def take_construction(self) -> float:
        """The seconds of the construction, for who accounts for them; 0 from the second time on."""
        seconds, self._construction = self._construction, 0.0
        return seconds

    @property
    def total(self) -> Cost:
        """All that was counted so far."""
        return self._total

    def count(self, losses: int = 0, gradients: int = 0, products: int = 0) -> None:
        """Count passes over the data."""
        self.add(Cost(losses, gradients, products))

    def prepare(self, gradients: float) -> None:
        """Count what a check or a timing has evaluated."""
        self.add(Cost(preparation=gradients))

    def add(self, cost: Cost) -> None:
        """Count what was spent elsewhere, such as on mini-batches, in passes over the data."""
        self._total += cost

    def since(self, before: Cost) -> Cost:
        """What was counted after :attr:`total` was ``before``."""
        return self._total - before
