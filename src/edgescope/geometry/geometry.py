"""What a geometry is: a norm on parameter space, its dual norm, and its steepest direction."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class Geometry(ABC):
    """A norm on flat parameter vectors. A new one is a file with a dataclass, and one line in ``geometry/__init__``."""

    @abstractmethod
    def norm(self, vector: Float[Tensor, " P"]) -> Float[Tensor, ""]:
        """||vector||."""

    @abstractmethod
    def dual_norm(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, ""]:
        """The maximum of <gradient, d> over ||d|| <= 1."""

    @abstractmethod
    def steepest(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """A direction of norm 1 where that maximum is reached (the linear maximisation oracle); 0 for a zero gradient.

        Descent in this geometry is w - lr * dual_norm(g) * steepest(g).
        """
