"""Quadratic forms that a unit ball bounds: with them a generalized sharpness is bounded by one eigenvalue."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgescope.geometry.geometry import Geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.product import Product
from edgescope.geometry.spectral import Spectral
from edgescope.linalg import Metric
from edgescope.linalg.scaling import lengths_of

_LONGEST_SIDE = 1024
_FITS = 2  # rounds of alternating fit a call; further calls go on from there
_LEAST = 1e-6  # of the mean multiplier: below it a multiplier is raised, so that the form stays positive


class Majorant(Metric):
    """A form M > 0 with d'Md <= ``budget`` wherever ||d|| <= 1.

    So max d'Hd <= budget * max(0, largest eigenvalue of M^(-1/2) H M^(-1/2)), for every symmetric H. The multipliers in
    M are free; :meth:`fitted` chooses them, :func:`majorant` knows the family of a geometry.
    """

    budget: float

    @abstractmethod
    def power(self, block: Float[Tensor, "P k"], exponent: float) -> Float[Tensor, "P k"]:
        """M^exponent times the columns."""

    @abstractmethod
    def fitted(self, gradients: Float[Tensor, "P r"]) -> Self:
        """The multipliers that minimise <G, M^(-1) G> + budget, from these ones on.

        M^(-1) G is then the point of the relaxed unit ball where <G, V> is largest.
        """

    @abstractmethod
    def regularized(self, share: float) -> Self:
        """A share of the mean multiplier added to each."""

    @abstractmethod
    def multipliers(self) -> Float[Tensor, " n"]:
        """All multipliers, flat: what :meth:`restored` takes."""

    @abstractmethod
    def restored(self, multipliers: Float[Tensor, " n"]) -> Self:
        """The same family with these multipliers."""

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self.power(block, -0.5)

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self.power(block, 0.5)


class Uniform(Majorant):
    """M = y I with budget y max ||d||_2^2, the maximum over the ball: for a geometry of which nothing else is known."""

    def __init__(self, size: int, squared_radius: float, entry: float = 1.0) -> None:
        self.size, self.squared_radius = size, squared_radius
        self.entry = entry if entry > 0 else 1.0
        self.budget = self.entry * squared_radius

    def power(self, block: Tensor, exponent: float) -> Tensor:
        return block * self.entry**exponent

    def fitted(self, gradients: Tensor) -> Uniform:
        return Uniform(self.size, self.squared_radius, float(gradients.double().norm()) / self.squared_radius**0.5)

    def regularized(self, share: float) -> Uniform:
        return Uniform(self.size, self.squared_radius, (1 + share) * self.entry)

    def multipliers(self) -> Tensor:
        return torch.tensor([self.entry], dtype=torch.float64, device="cpu")

    def restored(self, multipliers: Tensor) -> Uniform:
        return Uniform(self.size, self.squared_radius, float(multipliers))


class Coordinates(Majorant):
    """Linf: M = diag(y), y > 0, with budget sum(y)."""

    def __init__(self, entries: Float[Tensor, " P"]) -> None:
        entries = entries.double()
        mean = entries.mean()
        self.entries = torch.where(mean > 0, entries.clamp(min=_LEAST * mean), 1.0)
        self.size = entries.shape[0]
        self.budget = float(self.entries.sum())

    def power(self, block: Tensor, exponent: float) -> Tensor:
        return block * self.entries.pow(exponent).to(block)[:, None]

    def fitted(self, gradients: Tensor) -> Coordinates:
        return Coordinates(lengths_of(gradients, dim=1))

    def regularized(self, share: float) -> Coordinates:
        return Coordinates(self.entries + share * self.entries.mean())

    def multipliers(self) -> Tensor:
        return self.entries

    def restored(self, multipliers: Tensor) -> Coordinates:
        return Coordinates(multipliers)


class Sides(Majorant):
    """Spectral: M D = Y D + D Z for each matrix D, Y on its rows and Z on its columns, both positive.

    Its budget is the sum of the min(m, n) largest eigenvalues of each, by von Neumann's trace inequality. The longer
    side is left out (Y or Z = 0) beside a side of 1, where it brings nothing, and above 1,024, where its decomposition
    would cost too much. The shorter side alone is a bound too, up to twice as high on networks.
    """

    def __init__(self, pairs: Sequence[tuple[Tensor | None, Tensor | None]], sides: Sequence[tuple[int, int]]) -> None:
        self.pairs, self.sides = list(pairs), list(sides)
        self.size = sum(m * n for m, n in self.sides)
        spectra = [[None if side is None else torch.linalg.eigh(side) for side in pair] for pair in self.pairs]
        # Numbers stay on the device until all of them are read at once.
        floor = _LEAST * torch.stack([side[0].max() for pair in spectra for side in pair if side is not None]).max()
        self._spectra = [
            [
                None if side is None else (torch.where(floor > 0, side[0].clamp(min=floor), side[0] + 1), side[1])
                for side in pair
            ]
            for pair in spectra
        ]
        held = zip(self._spectra, self.sides, strict=True)
        self.budget = sum(
            torch.stack(
                [side[0][-min(shape) :].sum() for pair, shape in held for side in pair if side is not None]
            ).tolist()
        )

    @classmethod
    def even(cls, sides: Sequence[tuple[int, int]]) -> Sides:
        """Identities."""
        pairs: list[tuple[Tensor | None, Tensor | None]] = []
        for m, n in sides:
            both = min(m, n) > 1 and max(m, n) <= _LONGEST_SIDE
            rows = torch.eye(m, dtype=torch.float64, device="cpu") if both or m <= n else None
            columns = torch.eye(n, dtype=torch.float64, device="cpu") if both or m > n else None
            pairs.append((rows, columns))
        return cls(pairs, sides)

    def power(self, block: Tensor, exponent: float) -> Tensor:
        pieces = []
        self._spectra = [[_moved(side, block) for side in pair] for pair in self._spectra]
        for matrices, (rows, columns) in zip(self._matrices(block), self._spectra, strict=True):
            turned, scale = matrices, torch.zeros(matrices.shape[1:], dtype=torch.float64, device=matrices.device)
            if rows is not None:
                turned, scale = rows[1].T @ turned, scale + rows[0][:, None]
            if columns is not None:
                turned, scale = turned @ columns[1], scale + columns[0]
            turned = turned * scale**exponent
            if rows is not None:
                turned = rows[1] @ turned
            if columns is not None:
                turned = turned @ columns[1].T
            pieces.append(turned.flatten(1).T)
        return torch.cat(pieces).to(block)

    def fitted(self, gradients: Tensor) -> Sides:
        current = self
        for _ in range(_FITS):
            pairs: list[tuple[Tensor | None, Tensor | None]] = []
            points = self._matrices(current.power(gradients, -1.0))
            for matrices, (rows, columns) in zip(points, current._spectra, strict=True):
                on_rows = torch.einsum("kij,klj->il", matrices, matrices)
                on_columns = torch.einsum("kij,kil->jl", matrices, matrices)
                pairs.append((_refit(rows, on_rows), _refit(columns, on_columns)))
            current = Sides(pairs, self.sides)
        return current

    def regularized(self, share: float) -> Sides:
        def regularize(side: Tensor | None) -> Tensor | None:
            if side is None:
                return None
            return side + share * side.trace() / len(side) * torch.eye(len(side), dtype=side.dtype, device=side.device)

        return Sides([(regularize(rows), regularize(columns)) for rows, columns in self.pairs], self.sides)

    def multipliers(self) -> Tensor:
        return torch.cat([side.flatten() for pair in self.pairs for side in pair if side is not None])

    def restored(self, multipliers: Tensor) -> Sides:
        held = [side for pair in self.pairs for side in pair if side is not None]
        pieces = iter(multipliers.split([side.numel() for side in held]))
        pairs = [tuple(None if side is None else next(pieces).view_as(side) for side in pair) for pair in self.pairs]
        return Sides(pairs, self.sides)  # type: ignore[arg-type]

    def _matrices(self, block: Tensor) -> list[Float[Tensor, "k m n"]]:
        pieces = block.double().split([m * n for m, n in self.sides])
        return [piece.T.unflatten(1, side) for piece, side in zip(pieces, self.sides, strict=True)]


def _refit(side: tuple[Tensor, Tensor] | None, gram: Tensor) -> Tensor | None:
    """Y^(1/2) gram^(1/2) Y^(1/2): fixed where the points meet their constraint, gram = 1; one step if all commutes."""
    moved = _moved(side, gram)
    if moved is None:
        return None
    values, vectors = moved
    root = (vectors * values.sqrt()) @ vectors.T
    squares, turn = torch.linalg.eigh(gram)
    fresh = root @ (turn * squares.clamp(min=0).sqrt()) @ turn.T @ root
    return (fresh + fresh.T) / 2


def _moved(side: tuple[Tensor, Tensor] | None, beside: Tensor) -> tuple[Tensor, Tensor] | None:
    """Values and vectors of a side on the device of another tensor: multipliers begin, and are kept, on the CPU."""
    return None if side is None else (side[0].to(beside.device), side[1].to(beside.device))


class Joint(Majorant):
    """Of a product (a maximum of norms over parts of the vector): the forms side by side, their budgets added."""

    def __init__(self, parts: Sequence[tuple[Majorant, Int[Tensor, " p"]]]) -> None:
        self.parts = list(parts)
        self.size = sum(form.size for form, _ in self.parts)
        self.budget = sum(form.budget for form, _ in self.parts)

    def power(self, block: Tensor, exponent: float) -> Tensor:
        result = torch.empty_like(block)
        self.parts = [(form, places.to(block.device)) for form, places in self.parts]  # once, not at every product
        for form, places in self.parts:
            result[places] = form.power(block[places], exponent)
        return result

    def fitted(self, gradients: Tensor) -> Joint:
        return Joint([(form.fitted(gradients[places]), places) for form, places in self.parts])

    def regularized(self, share: float) -> Joint:
        return Joint([(form.regularized(share), places) for form, places in self.parts])

    def multipliers(self) -> Tensor:
        return torch.cat([form.multipliers() for form, _ in self.parts])

    def restored(self, multipliers: Tensor) -> Joint:
        pieces = multipliers.split([form.multipliers().numel() for form, _ in self.parts])
        return Joint([(form.restored(own), places) for (form, places), own in zip(self.parts, pieces, strict=True)])


@singledispatch
def majorant(geometry: Geometry, size: int) -> Majorant:
    """The family of forms for a (bound) geometry on vectors of this length, with equal multipliers at first.

    A user's geometry registers its family with ``majorant.register``; without one the bound is
    ``geometry.squared_radius`` times the largest eigenvalue.
    """
    return Uniform(size, geometry.squared_radius(size))


@majorant.register
def _(geometry: Linf, size: int) -> Majorant:
    return Coordinates(torch.ones(size, device="cpu"))


@majorant.register
def _(geometry: Spectral, size: int) -> Majorant:
    return Sides.even(geometry.sides())


@majorant.register
def _(geometry: Product, size: int) -> Majorant:
    places = list(torch.arange(size, device="cpu").split(geometry.sizes()))
    parts = []
    for part in geometry.parts:
        own = torch.cat([places[i] for i in part.tensors])
        parts.append((majorant(part.geometry, len(own)), own))
    return Joint(parts)
