"""Geometries mixed by parameter group: the largest of the groups' norms."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry.geometry import GEOMETRIES, Geometry, Shapes, as_geometry
from edgescope.geometry.of_tensors import OfTensors
from edgescope.options import check_fields, text


@dataclass(frozen=True)
class Part:
    """A geometry, and the tensors that it acts on: their places among all tensors, in the order it sees them."""

    geometry: Geometry
    tensors: tuple[int, ...]


@dataclass(frozen=True)
class Product(OfTensors):
    """max_j ||d_j||_j over parts, with dual sum_j ||g_j||_j*; the steepest direction is that of every part.

    In this product of norms the parts do not compete for a step: each moves as far as it would alone. Every tensor must
    be in exactly one part.
    """

    parts: tuple[Part, ...]

    def bind(self, shapes: Shapes) -> Self:
        bound = super().bind(shapes)
        known = bound.known_shapes()
        members = sorted(number for part in self.parts for number in part.tensors)
        if members != list(range(len(known))):
            raise InputError(
                f"a product of geometries for the tensors {members}", expected=f"each of 0 to {len(known) - 1} once"
            )
        parts = tuple(Part(p.geometry.bind([known[i] for i in p.tensors]), p.tensors) for p in self.parts)
        object.__setattr__(bound, "parts", parts)
        return bound

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.stack([part.geometry.norm(own) for part, own in self._split_parts(vectors)]).amax(0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return torch.stack([part.geometry.dual_norm(own) for part, own in self._split_parts(gradients)]).sum(0)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        sizes = self.sizes()
        pieces: dict[int, Tensor] = {}
        for part, own in self._split_parts(gradients):
            moved = part.geometry.steepest(own).split([sizes[i] for i in part.tensors])
            pieces |= dict(zip(part.tensors, moved, strict=True))
        return torch.cat([pieces[i] for i in range(len(sizes))])

    def squared_radius(self, size: int) -> float:
        sizes = self.sizes()
        return sum(part.geometry.squared_radius(sum(sizes[i] for i in part.tensors)) for part in self.parts)

    def _split_parts(self, vectors: Tensor) -> list[tuple[Part, Tensor]]:
        pieces = self.split(vectors)
        return [(part, torch.cat([pieces[i] for i in part.tensors])) for part in self.parts]


@dataclass(frozen=True)
class Mixed(Product):
    """One geometry for matrices (tensors of two or more dimensions), one for vectors and scalars: their product.

    ``matrices`` and ``vectors`` are names of geometries; the parts follow from the shapes.
    """

    parts: tuple[Part, ...] = field(default=(), init=False)
    matrices: str = "spectral"
    vectors: str = "linf"

    any_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, "geometry 'mixed'", matrices=text(empty=False), vectors=text(empty=False))
        for name in (self.matrices, self.vectors):
            if issubclass(GEOMETRIES[name.partition(":")[0].strip()], Mixed):
                raise InputError(f"geometry 'mixed' of '{name}'", expected="a geometry that is not mixed itself")
            as_geometry(name)

    def bind(self, shapes: Shapes) -> Self:
        of_matrices = tuple(i for i, shape in enumerate(shapes) if len(shape) >= 2)
        of_vectors = tuple(i for i, shape in enumerate(shapes) if len(shape) < 2)
        parts = ((self.matrices, of_matrices), (self.vectors, of_vectors))
        mixed = copy.copy(self)
        object.__setattr__(mixed, "parts", tuple(Part(as_geometry(name), own) for name, own in parts if own))
        return super(Mixed, mixed).bind(shapes)
