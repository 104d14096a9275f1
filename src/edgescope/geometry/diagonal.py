"""The norm of a fixed diagonal preconditioner: the geometry of preconditioned gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry.geometry import Shapes
from edgescope.geometry.of_tensors import OfTensors
from edgescope.linalg import metric
from edgescope.linalg.scaling import lengths_of
from edgescope.options import check_choice, check_fields, real


@dataclass(frozen=True, eq=False)
class Diagonal(OfTensors):
    """sqrt(sum_i p_i d_i^2) with p > 0, dual sqrt(sum_i g_i^2 / p_i), so that steepest descent is w - lr g/p.

    ``preconditioner`` is p itself, a tensor (P,), or a rule: ``"fan-in"`` (the entries of a weight that feed one
    output; 1 for vectors and scalars) or ``"log-uniform"`` (drawn between 1/spread and spread, as ``seed`` says).
    Raises :class:`InputError` for entries that are not positive and finite.
    """

    preconditioner: Tensor | str = "fan-in"
    spread: float = 10.0
    seed: int = 0
    entries: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        owner = "geometry 'diagonal'"
        check_fields(self, owner, spread=real(above=0))
        if isinstance(self.preconditioner, Tensor):
            object.__setattr__(self, "entries", metric.DiagonalMetric(self.preconditioner.detach()).entries)
        else:
            check_choice(owner, "preconditioner", self.preconditioner, known=tuple(RULES))

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Diagonal):
            return self is other
        mine, theirs = self.preconditioner, other.preconditioner
        alike = mine is theirs or (isinstance(mine, str) and isinstance(theirs, str) and mine == theirs)
        return alike and (self.spread, self.seed, self.shapes) == (other.spread, other.seed, other.shapes)

    __hash__ = None  # type: ignore[assignment]

    def bind(self, shapes: Shapes) -> Self:
        bound = super().bind(shapes)
        size = sum(bound.sizes())
        if isinstance(self.preconditioner, str):
            object.__setattr__(bound, "entries", RULES[self.preconditioner](self, bound.known_shapes()))
        elif self.preconditioner.numel() != size:
            raise InputError(
                f"a preconditioner of {self.preconditioner.numel()} entries for tensors that hold {size} numbers",
                expected="one entry a parameter",
            )
        return bound

    def metric(self) -> metric.DiagonalMetric:
        """The preconditioner as a metric: the sharpness in this geometry is the largest eigenvalue in it."""
        return metric.DiagonalMetric(self._known_entries())

    def norm(self, vectors: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return lengths_of(self._entries_for(vectors).sqrt() * vectors, dim=0)

    def dual_norm(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, "*k"]:
        return lengths_of(gradients / self._entries_for(gradients).sqrt(), dim=0)

    def steepest(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return self.to_sphere(self.descent(gradients))

    def descent(self, gradients: Float[Tensor, " P *k"]) -> Float[Tensor, " P *k"]:
        return gradients / self._entries_for(gradients)

    def squared_radius(self, size: int) -> float:
        return 1 / float(self._known_entries().min())

    def _known_entries(self) -> Tensor:
        if self.entries is None:
            self.known_shapes()
        assert self.entries is not None
        return self.entries

    def _entries_for(self, vectors: Tensor) -> Tensor:
        entries = self._known_entries().to(vectors)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != entries.shape[0]:
            raise InputError(
                f"vectors of shape {tuple(vectors.shape)} and a preconditioner of {entries.shape[0]} entries",
                expected=f"shape ({entries.shape[0]},) or ({entries.shape[0]}, k)",
            )
        return entries if vectors.ndim == 1 else entries[:, None]


def _fan_in(geometry: Diagonal, shapes: Shapes) -> Tensor:
    return torch.cat([torch.full((math.prod(s),), math.prod(s[1:]), dtype=torch.float64, device="cpu") for s in shapes])


def _log_uniform(geometry: Diagonal, shapes: Shapes) -> Tensor:
    size = sum(math.prod(shape) for shape in shapes)
    draw = np.random.default_rng(geometry.seed).random(size)  # not torch's, which vmap refuses
    return torch.from_numpy(geometry.spread ** (2 * draw - 1))


RULES: dict[str, Callable[[Diagonal, Shapes], Tensor]] = {"fan-in": _fan_in, "log-uniform": _log_uniform}
