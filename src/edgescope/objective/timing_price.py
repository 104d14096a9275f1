"""What timing other paths takes, and what of a product they could save."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from edgescope.objective.operations import nodes_of

SAVED = 0.5
"""The largest share of its time that another path was seen to save of a product, where arithmetic does not dominate."""

_AN_OPERATION = 1e-5
"""Seconds of overhead of an operation of a backward pass on a CPU, at most. Vectors of a batch share it."""

_FIRST_USE = 1.0
"""Seconds of a processor that torch takes before its first batched product, in which it loads sympy: 0.5 to 1.9."""


def price(width: int) -> int:
    """About how many products it takes to time rivals at blocks of so many vectors: comparisons, two blocks of each."""
    return 8 + 5 * width


@dataclass
class ProductTimes:
    """The shortest time of a product of graphs that are kept, on a CPU, and how many operations these have."""

    seconds: float = math.inf
    operations: int = 0

    def note(self, seconds: float, roots: Iterable[Tensor]) -> None:
        """Take note of the seconds of one product, which went through the graphs of these tensors."""
        self.seconds = min(self.seconds, seconds)
        if not self.operations:
            self.operations = sum(1 for _ in nodes_of(list(roots)))

    def timing_pays(self, products: int, width: int) -> bool:
        """Whether so many products could have saved, on another path, what it takes to time those for this width."""
        if math.isinf(self.seconds):
            return products * SAVED > price(width)
        share = min(SAVED, self.operations * _AN_OPERATION / self.seconds)
        first_use = 0.0 if "sympy" in sys.modules else _FIRST_USE / self.seconds
        return products * share > price(width) + first_use
