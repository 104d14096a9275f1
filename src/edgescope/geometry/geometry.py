"""What a geometry is: a norm on parameter space, its dual norm, and its steepest direction."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.registry import Registry

Shapes = Sequence[tuple[int, ...]]


class Geometry(ABC):
    """A norm on flat parameter vectors. A new one is a file with a dataclass, and one line in ``geometry/__init__``.

    Every method takes one vector ``(P,)`` or a block ``(P, k)`` whose columns are vectors, and works on each column.
    Values that are not finite give results that are not finite, and no error.

    A norm that depends on the tensors in the vector acts once it is bound to their shapes, which measures and
    optimizers do: ``geometry.bind(operator.shapes)``. ``any_order`` says that the norm stays the same when the tensors
    change places together with their shapes.
    """

    any_order: ClassVar[bool] = False

    def bind(self, shapes: Shapes) -> Geometry:
        """This geometry for vectors in which tensors of these shapes lie one after the other.

        Raises :class:`InputError` for shapes that it cannot act on. Itself where the shapes do not matter.
        """
        return self

    @abstractmethod
    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        """||vector||."""

    @abstractmethod
    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        """The maximum of <gradient, d> over ||d|| <= 1."""

    @abstractmethod
    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        """A direction of norm 1 where that maximum is reached (the linear maximisation oracle); 0 for a zero gradient.

        Steepest descent in this geometry is w - lr * dual_norm(g) * steepest(g).
        """

    def descent(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        """dual_norm(g) * steepest(g), the step of steepest descent with learning rate 1; one call of the oracle."""
        directions = self.steepest(gradients)
        return (gradients * directions).sum(0) * directions

    def to_sphere(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        """The vectors scaled to norm 1; a zero vector stays zero."""
        norm = self.norm(vectors)
        return vectors / torch.where(norm == 0, 1.0, norm)

    def squared_radius(self, size: int) -> float:
        """The largest ||d||_2^2 in the unit ball of vectors of this length, with which S <= lambda_max * it.

        Infinite where it is not known.
        """
        return math.inf


GEOMETRIES: Registry[Geometry] = Registry("geometry")


def as_geometry(geometry: Geometry | str) -> Geometry:
    """A geometry, or the one that a name with options such as ``"spectral:polar=newton-schulz"`` stands for."""
    if isinstance(geometry, str):
        return GEOMETRIES.build(geometry)
    if isinstance(geometry, Geometry):
        return geometry
    raise InputError(
        f"a geometry given as a {type(geometry).__name__}",
        expected=f"a Geometry, or one of {', '.join(GEOMETRIES.names())}",
    )
