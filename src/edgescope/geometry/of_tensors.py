"""Norms that are composed of norms of the parameter tensors, whose shapes they know."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Self

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry.geometry import Geometry, Shapes


@dataclass(frozen=True)
class OfTensors(Geometry):
    """A geometry that splits vectors into tensors: ``shapes`` is None until it is bound to them."""

    shapes: tuple[tuple[int, ...], ...] | None = field(default=None, init=False)

    def bind(self, shapes: Shapes) -> Self:
        shapes = tuple(tuple(int(n) for n in shape) for shape in shapes)
        empty = [shape for shape in shapes if 0 in shape]
        if empty or not shapes:
            raise InputError(
                f"a geometry of tensors bound to {f'a tensor of shape {empty[0]}' if empty else 'no tensors'}",
                expected="at least one tensor, each with at least one entry",
            )
        bound = copy.copy(self)
        object.__setattr__(bound, "shapes", shapes)
        return bound

    def known_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes, or an :class:`InputError` where they are not known yet."""
        if self.shapes is None:
            raise InputError(
                f"the geometry {type(self).__name__} does not know the shapes of the parameter tensors",
                hint="geometry.bind([slot.shape for slot in objective.layout]), or shapes= where a matrix is given",
            )
        return self.shapes

    def sizes(self) -> list[int]:
        """How many numbers each tensor has."""
        return [math.prod(shape) for shape in self.known_shapes()]

    def split(self, vectors: Float[Tensor, " P *k"]) -> list[Tensor]:
        """One view (size, *k) a tensor."""
        sizes = self.sizes()
        if vectors.ndim not in (1, 2) or vectors.shape[0] != sum(sizes):
            raise InputError(
                f"vectors of shape {tuple(vectors.shape)} in a geometry of tensors that hold {sum(sizes)} numbers",
                expected=f"shape ({sum(sizes)},) or ({sum(sizes)}, k)",
            )
        return list(vectors.split(sizes))
