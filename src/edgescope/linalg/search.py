"""The search for eigenpairs in a growing basis: expand, restart, test convergence, look for missed eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.basis import Basis
from edgescope.linalg.ritz import Ritz
from edgescope.transfers import send

Which = Literal["largest", "smallest", "both"]
Progress = Callable[[int, float], None]

_SMALL = 16  # an operator with no more rows is decomposed: as many products as a search for one eigenpair takes
_AUDIT_SHARE = 0.1  # products of an audit, as a fraction of those spent so far
_AUDIT_MIN = 4  # products of an audit, at least
_MARGIN = 0.95  # the search aims at this fraction of a limit, so that rounding does not lift the residual above it
_GUARD_RESIDUAL = 0.05  # residual of a guard, as a fraction of its value
_ASYMMETRY = 6  # rounding errors of values in float32 were up to six times the asymmetry of the products
_RESOLVED = 1e-3  # residuals are multiplied as several vectors where they differ by more than this
_MIN_GAIN = 1e-5  # a smaller relative gain of a value is rounding (in float32) and says nothing about the gap


@dataclass(frozen=True)
class SearchResult:
    """The k values in descending order, their coordinates in the basis, residual norms, and error bounds of the values.

    ``products`` counts the products since the search was made.
    """

    values: Float[Tensor, " k"]
    coordinates: Float[Tensor, "m k"]
    residuals: Float[Tensor, " k"]
    errors: Float[Tensor, " k"]
    converged: Bool[Tensor, " k"]
    products: int


@dataclass(frozen=True)
class _Iterate:
    """The wanted Ritz pairs of the present basis, the guards included.

    ``largest`` says which are at the upper end. ``residuals`` (k, f) are their parts outside the basis, in coordinates
    of the rows there, and ``outside`` (k,) the norms of these; ``excess`` (k,) is the error measure over its limit.
    ``complete`` says whether the basis has as many pairs as are wanted.
    """

    ritz: Ritz
    values: Float[Tensor, " k"]
    largest: Bool[Tensor, " k"]
    outside: Float[Tensor, " k"]
    excess: Float[Tensor, " k"]
    complete: bool
    residuals: Float[Tensor, "k f"]


def select(values: Float[Tensor, " m"], which: Which, count: int) -> Int[Tensor, " k"]:
    """The positions of the wanted ones among descending ``values``: ``count`` at one end, or at each end."""
    size = values.shape[0]
    positions = torch.arange(size, device="cpu")
    top, bottom = positions < count, positions >= size - count
    return positions[{"largest": top, "smallest": bottom, "both": top | bottom}[which]]


def value_errors(
    values: Float[Tensor, " k"],
    residuals: Float[Tensor, " k"],
    spectrum: Float[Tensor, " m"],
    assumed_relative_gap: float | None,
) -> Float[Tensor, " k"]:
    """Estimated errors of Ritz values: residual^2 / gap, and never more than the residual (Parlett 1980, ch. 11).

    The gap is the distance to the nearest other Ritz value in ``spectrum``. A small basis does not resolve the
    neighbours of a value; with ``assumed_relative_gap`` the gap is that fraction of the value instead.
    """
    if assumed_relative_gap is not None:
        gaps = assumed_relative_gap * values.abs()
    elif spectrum.shape[0] > 1:
        gaps = (values[:, None] - spectrum).abs().sort(dim=1).values[:, 1]
    else:
        gaps = values.abs()
    return torch.where(residuals < gaps, residuals * (residuals / gaps.clamp(min=1e-300)), residuals)


class Search:
    """A search for the ``count`` wanted eigenpairs (at each end, for "both") of the operator of ``basis``.

    Without seeds it is a (block) Lanczos iteration with full reorthogonalisation. With more seeds than the block has
    vectors the basis is expanded by the residuals of the worst pairs, one block at a time, or by the corrections of
    these pairs where something is known of the operator outside. A full basis is restarted from its best Ritz vectors
    (Wu and Simon 2000).

    Convergence is tested in one of two ways, of which exactly one tolerance is given:

    - ``residual_tol``: the residual is at most residual_tol * |value|;
    - ``value_tol``: the estimated error of the value, residual^2 / (``assumed_relative_gap`` * |value|), is at most
      value_tol * |value|.

    The limit is never below what the precision of the operator resolves. ``budget`` is the largest number of products.
    ``guards`` more pairs next to the wanted ones are found roughly, to a twentieth of their value.
    """

    def __init__(
        self,
        basis: Basis,
        which: Which,
        count: int,
        *,
        budget: int,
        generator: torch.Generator,
        residual_tol: float | None = None,
        value_tol: float | None = None,
        assumed_relative_gap: float | None = None,
        block: int = 1,
        progress: Progress | None = None,
    ) -> None:
        if (residual_tol is None) == (value_tol is None) or (value_tol is None) != (assumed_relative_gap is None):
            raise TypeError("a search takes residual_tol, or value_tol with assumed_relative_gap")
        self.basis = basis
        self.which: Which = which
        self.count = count
        self.assumed_relative_gap = assumed_relative_gap
        self.block = block
        self.budget = budget
        self.progress = progress
        self.guards = 0
        self.observed_gap = math.inf
        """The smallest relative gap that the gains of the values in the last run imply."""

        self._tolerance = float(value_tol if residual_tol is None else residual_tol)  # type: ignore[arg-type]
        self._generator = generator
        self._before = basis.operator.products
        self._epsilon = torch.finfo(basis.operator.dtype).eps

    @property
    def _ends(self) -> int:
        return 2 if self.which == "both" else 1

    @property
    def spent(self) -> int:
        """The number of products so far."""
        return self.basis.operator.products - self._before

    def initialise(self, seeds: Float[Tensor, "j P"] | None, drop: float) -> None:
        """Start from the seeds by a Rayleigh-Ritz step, or from a random block; take the whole of a small operator."""
        if not self._take_whole() and seeds is not None:
            self.basis.append(seeds, drop=drop)
        if not self.basis.outward:
            self._append_random(min(self.block, self.basis.operator.size))
        self.basis.expand()

    def resume(
        self, known: Float[Tensor, "j P"], values: Float[Tensor, " j"], again: Bool[Tensor, " j"], drop: float
    ) -> None:
        """Start from vectors of an earlier search and their values then.

        Of the rows ``again`` the span is multiplied; the others are an estimate of the operator outside.
        """
        if self._take_whole():
            self.basis.expand()
            return
        # Nothing lies farther from an end than where nothing is known: zero, or beyond all that is.
        bounds = {"largest": min(0.0, float(values.min())), "smallest": max(0.0, float(values.max())), "both": 0.0}
        coordinates = self.basis.append_known(known, values, bounds[self.which], drop)
        if not self.basis.outward:
            self._append_random(1)
            self.basis.expand()
            return
        directions = _orthonormal(coordinates[again], drop)
        self.basis.expand(directions if directions.shape[0] else None)

    def run(self, *, audit: bool) -> SearchResult:
        """Expand until all wanted pairs have converged, the basis is the whole space, or the budget is spent.

        With ``audit``, a Lanczos run from a random direction orthogonal to the basis looks for missed values once the
        pairs have converged: it takes a tenth of the products spent so far, at least 4. If it moves any value, the
        search continues, and is audited again.

        The loop compares the limits with the residuals' components outside the basis only: the components inside are
        rounding of products and sums, which no expansion reduces. The flags that are returned use the whole residual.
        """
        history: list[tuple[Tensor, Tensor]] = []
        while True:
            iterate = self._evaluate()
            history.append((iterate.values, iterate.outside))
            if self.progress is not None:
                self.progress(self.spent, float(iterate.excess.max()) * self._tolerance)
            if self._converged(iterate):
                if audit and self.basis.size < self.basis.operator.size and self._left() > 0:
                    audit = self._audit(iterate.ritz)
                    continue
                self.observed_gap = self._observed_gap(history, iterate.ritz)
                return self._result(iterate.ritz)
            if not self._expand(iterate):
                return self._result(iterate.ritz)

    def _take_whole(self) -> bool:
        """Put the whole space outside where the operator is small; whether it is."""
        basis, operator = self.basis, self.basis.operator
        small = operator.size <= min(_SMALL, self.budget, basis.total)
        if small:
            basis.append(torch.eye(operator.size, dtype=operator.dtype, device=operator.device))
        return small

    def _evaluate(self) -> _Iterate:
        """The Ritz pairs of the basis and how far they are from convergence."""
        ritz = self.basis.ritz()
        places = select(ritz.values, self.which, self.count + self.guards)
        values, coordinates = ritz.values[places], ritz.coordinates[:, places]
        _, residuals = self.basis.residuals(values, coordinates)
        outside = torch.linalg.vector_norm(residuals, dim=1)
        limits = (_MARGIN * self._limits(values, ritz)).clamp(min=1e-300)
        excess = self._error_measure(values, outside, ritz) / limits
        reach = self.count + self.guards
        complete = places.shape[0] == min(self.basis.operator.size, self._ends * reach)
        largest = (places < reach) & torch.tensor(self.which != "smallest", device="cpu")
        return _Iterate(ritz, values, largest, outside, excess, complete, residuals)

    def _converged(self, iterate: _Iterate) -> bool:
        """Whether the search may end: all pairs are within their limits, or the basis is the whole space."""
        if self.basis.size == self.basis.operator.size:
            return True
        return iterate.complete and bool((iterate.excess <= 1).all())

    def _expand(self, iterate: _Iterate) -> bool:
        """One more block of products; False where the budget does not allow it."""
        directions = None
        if self.basis.outward > self.block:
            unconverged = int((~(iterate.excess <= 1)).sum())
            worst = iterate.excess.argsort(descending=True)[: min(self.block, unconverged)]
            directions = _orthonormal(self._corrections(iterate, worst), self._rounding(iterate.ritz))
        if not self.basis.outward or (directions is not None and not directions.shape[0]):
            if self.basis.free < 2:
                self._restart(iterate.ritz, 2)
            directions = self._random_direction()
        count = self.basis.outward if directions is None else directions.shape[0]
        if count > self._left():
            return False
        if self.basis.free < count:
            directions = self._restart(iterate.ritz, count, directions)
        self.basis.expand(directions)
        return True

    def _corrections(self, iterate: _Iterate, pairs: Int[Tensor, " b"]) -> Float[Tensor, "b f"]:
        """The directions outside along which these pairs are to be corrected."""
        residuals, estimate = iterate.residuals[pairs], self.basis.estimate
        if estimate is None:
            return residuals
        floor = max(self._epsilon ** (2 / 3) * iterate.ritz.magnitude, 1e-300)
        return estimate.corrections(residuals, iterate.values[pairs], iterate.largest[pairs], floor)

    def _audit(self, ritz: Ritz) -> bool:
        """Look for missed values from a random direction. Returns whether any wanted value moved."""
        basis, before = self.basis, ritz
        values = ritz.values[select(ritz.values, self.which, self.count)]
        steps = max(_AUDIT_MIN, math.ceil(_AUDIT_SHARE * self.spent))
        steps = min(steps, self._left(), basis.operator.size - basis.size)
        if basis.free < steps + 1:
            self._restart(ritz, steps + 1)
        for step in range(steps):
            # The new part of the last product, so that this is a Lanczos run from the random direction.
            directions = _orthonormal(basis.coupling[-1:], self._rounding(ritz)) if step else None
            if directions is None or not directions.shape[0]:
                if basis.free < 2:
                    self._restart(ritz, 2)
                directions = self._random_direction()
            if not basis.free:
                directions = self._restart(ritz, 1, directions)
            basis.expand(directions)
            ritz = basis.ritz()
        moved = (ritz.values[select(ritz.values, self.which, self.count)] - values).abs()
        return bool((moved > self._limits(values, before)).any())

    def _observed_gap(self, history: list[tuple[Tensor, Tensor]], ritz: Ritz) -> float:
        """The smallest residual^2 / (gain |value|): the amount a value gained later is at least the error it had."""
        final = ritz.values[select(ritz.values, self.which, self.count + self.guards)]
        wanted = torch.isin(final, ritz.values[select(ritz.values, self.which, self.count)])
        smallest = math.inf
        for values, residuals in history:
            if values.shape != final.shape:
                continue
            gain, size = (final - values).abs(), values.abs()
            usable = wanted & (gain > _MIN_GAIN * size) & (residuals < _GUARD_RESIDUAL * size)
            if bool(usable.any()):
                smallest = min(smallest, float((residuals / gain * (residuals / size))[usable].min()))
        return smallest

    def _restart(
        self, ritz: Ritz, free: int = 1, directions: Float[Tensor, "b f"] | None = None
    ) -> Float[Tensor, "b g"] | None:
        """Keep the best Ritz vectors only, so that ``free`` rows are free where memory allows it, and at least one.

        Returns the coordinates of ``directions`` among the rows that stay outside.
        """
        basis, reach = self.basis, self._ends * (self.count + self.guards)
        extra = 0 if directions is None else directions.shape[0]
        # So many rows may stay outside where only the wanted pairs are kept.
        basis.reserve(reach + min(basis.outward, reach + extra) + max(self.block, extra, 1) + 1)
        spare = basis.total - basis.outward - reach
        keep = reach // self._ends + max(0, min(spare // 2, spare - free)) // self._ends
        places = select(ritz.values, self.which, keep)
        return basis.compress(ritz.values[places], ritz.coordinates[:, places], directions)

    def _random_direction(self) -> Float[Tensor, "1 f"]:
        """A random direction outside: half of it new, half among the rows there, where there are any.

        Where the residual of a wanted pair hides another eigenvector, close to it in value, that is among these rows.
        """
        known = self.basis.outward
        self._append_random(1)
        choice = torch.randn((1, self.basis.outward), generator=self._generator, dtype=torch.float64, device="cpu")
        for part in (choice[:, :known], choice[:, known:]):
            part /= torch.linalg.vector_norm(part)
        return choice / torch.linalg.vector_norm(choice)

    def _append_random(self, rows: int) -> None:
        """Random directions outside; none where the rows fill the space."""
        basis, operator = self.basis, self.basis.operator
        before = basis.outward
        while basis.outward == before and basis.size + basis.outward < operator.size:
            fresh = torch.randn(rows, operator.size, generator=self._generator, dtype=operator.dtype, device="cpu")
            basis.append(send(fresh, basis.rows))

    def _limits(self, values: Tensor, ritz: Ritz) -> Tensor:
        """The largest error measure with which each pair counts as converged."""
        scale = values.abs().clamp(min=self._epsilon ** (2 / 3) * ritz.magnitude)
        limits = (self._tolerance * scale).clamp(min=self._rounding(ritz))
        if values.shape[0] > self._ends * self.count:
            places = select(ritz.values, self.which, self.count + self.guards)
            wanted = torch.isin(places, select(ritz.values, self.which, self.count))
            limits = torch.where(wanted, limits, torch.maximum(limits, _GUARD_RESIDUAL * scale))
        return limits

    def _error_measure(self, values: Tensor, residuals: Tensor, ritz: Ritz) -> Tensor:
        """What the tolerance limits: the residuals, or the estimated errors of the values."""
        if self.assumed_relative_gap is None:
            return residuals
        return value_errors(values, residuals, ritz.values, self.assumed_relative_gap)

    def _rounding(self, ritz: Ritz) -> float:
        """10 eps times the norm of the operator, or times the smallest normal number where that is larger.

        At least the error of its products, where these are not exact.

        Raises :class:`InputError` where the norm overflows the operator's precision.
        """
        precision = self.basis.operator.dtype
        if not ritz.magnitude <= torch.finfo(precision).max:
            raise InputError(
                f"an eigenvalue of {ritz.magnitude:.3g} is beyond the range of {precision}",
                hint="dtype=torch.float64, or a loss in another unit",
            )
        return max(self.basis.rounding(ritz.magnitude), self.basis.operator.product_error)

    def _left(self) -> int:
        return self.budget - self.spent

    def _result(self, ritz: Ritz) -> SearchResult:
        places = select(ritz.values, self.which, self.count)
        values, coordinates = ritz.values[places], ritz.coordinates[:, places]
        inside, outside = (torch.linalg.vector_norm(r, dim=1) for r in self.basis.residuals(values, coordinates))
        residuals = torch.hypot(inside, outside)
        converged = self._error_measure(values, residuals, ritz) <= self._limits(values, ritz)
        errors = value_errors(values, residuals, ritz.values, self.assumed_relative_gap)
        # The component of a residual inside the basis measures the asymmetry of the products: the rounding of a value.
        errors = torch.maximum(errors, _ASYMMETRY * inside).clamp(min=self._rounding(ritz))
        return SearchResult(values, coordinates, residuals, errors, converged, self.spent)


def _orthonormal(rows: Float[Tensor, "b f"], floor: float) -> Float[Tensor, "j f"]:
    """An orthonormal basis of the span of those rows that are longer than ``floor``."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    long = lengths > floor
    unit = rows[long] / lengths[long, None]
    _, sizes, turn = torch.linalg.svd(unit, full_matrices=False)
    return turn[sizes > _RESOLVED]
