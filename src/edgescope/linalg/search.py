"""The search for eigenpairs in a growing basis: expand, restart, decide when settled, look for what was missed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgescope.linalg.basis import Basis, Ritz, inner

Which = Literal["largest", "smallest", "both"]
Progress = Callable[[int, float], None]

_AUDIT_SHARE = 0.1  # of the products spent so far
_AUDIT_LEAST = 4
_MARGIN = 0.95  # of the limits is aimed at, so that the part of a residual that is rounding does not tip it over
_GUARD = 0.05  # residual of a guard, as a share of its value
_GAIN = 1e-5  # share of a value below which its gain tells no gap: rounding, in float32


@dataclass(frozen=True)
class Found:
    """Where a search ended: k values in descending order, their coordinates in the basis, residual norms, errors."""

    values: Float[Tensor, " k"]
    coordinates: Float[Tensor, "m k"]
    residuals: Float[Tensor, " k"]
    errors: Float[Tensor, " k"]
    settled: Bool[Tensor, " k"]
    products: int


def select(values: Float[Tensor, " m"], which: Which, count: int) -> Int[Tensor, " k"]:
    """Where the wanted ones lie among descending ``values``: ``count`` at one end, or at each of both."""
    size = values.shape[0]
    places = torch.arange(size)
    top, bottom = places < count, places >= size - count
    return places[{"largest": top, "smallest": bottom, "both": top | bottom}[which]]


def value_errors(
    values: Float[Tensor, " k"], residuals: Float[Tensor, " k"], spectrum: Float[Tensor, " m"], crowd: float | None
) -> Float[Tensor, " k"]:
    """Estimated errors of Ritz values: residual^2 / gap, and never more than the residual (Parlett 1980, ch. 11).

    The gap is to the nearest other Ritz value; or, since a small basis does not know its neighbours, a fixed share
    ``crowd`` of the value itself.
    """
    if crowd is not None:
        gaps = crowd * values.abs()
    elif spectrum.shape[0] > 1:
        gaps = (values[:, None] - spectrum).abs().sort(dim=1).values[:, 1]
    else:
        gaps = values.abs()
    return torch.where(residuals < gaps, residuals**2 / gaps.clamp(min=1e-300), residuals)


class Search:
    """One search for the ``count`` wanted eigenpairs (at each end, for "both") of the operator of ``basis``.

    A cold search is a (block) Lanczos iteration with full reorthogonalisation. A search from seeds expands with the
    residuals of the worst pairs instead, since the span of inexact seeds is no Krylov space. A full basis is restarted
    from its best Ritz vectors (Wu and Simon 2000).

    A pair is settled when its residual is at most tolerance * |value|; with ``crowd``, when the error of its value,
    residual^2 / (crowd * |value|), is. The limit is never below what the precision of the operator resolves.
    ``guards`` more pairs next to the wanted ones are found roughly, to a twentieth of their value.
    """

    def __init__(
        self,
        basis: Basis,
        which: Which,
        count: int,
        *,
        tolerance: float,
        budget: int,
        generator: torch.Generator,
        crowd: float | None = None,
        block: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self.basis = basis
        self.which: Which = which
        self.count = count
        self.tolerance = tolerance
        self.crowd = crowd
        self.block = block
        self.budget = budget
        self.progress = progress
        self.guards = 0
        self.gap = math.inf  # smallest of the gaps, over the value, that the gains of the last run tell of
        self._generator = generator
        self._before = basis.operator.products
        self._epsilon = torch.finfo(basis.operator.dtype).eps
        self._tail = 0  # rows of the last Lanczos block; 0: expand by residuals

    @property
    def _ends(self) -> int:
        return 2 if self.which == "both" else 1

    @property
    def spent(self) -> int:
        return self.basis.operator.products - self._before

    def sow(self, seeds: Float[Tensor, "j P"] | None, drop: float) -> None:
        """Begin: Rayleigh-Ritz on the seeds, or a random block for a cold start."""
        if seeds is not None:
            self.basis.propose(seeds, drop=drop)
        if not self.basis.proposed:
            self._propose_random(min(self.block, self.basis.operator.size))
            self._tail = self.basis.proposed
        self.basis.commit()

    def run(self, *, audit: bool) -> Found:
        """Expand until all wanted pairs are settled, the basis is the whole space or the budget is spent.

        ``audit``: once they are settled, a Lanczos run from a fresh random direction orthogonal to the basis, for a
        tenth of the products spent (at least 4), looks for a value that was missed; if it moves any, the search goes
        on, and is audited again.

        What is compared with the limits on the way is the residual's part outside of the basis: the part inside is the
        rounding of products and sums, which no expansion lowers. The flags that are returned mean the whole residual.
        """
        basis, whole = self.basis, self.basis.operator.size
        passed: list[tuple[Tensor, Tensor]] = []
        while True:
            ritz = basis.ritz()
            places = select(ritz.values, self.which, self.count + self.guards)
            values, coordinates = ritz.values[places], ritz.coordinates[:, places]
            limits = self._limits(values, ritz)
            floor = 10 * self._epsilon * ritz.magnitude
            complete = places.shape[0] == min(whole, self._ends * (self.count + self.guards))
            if self._tail and basis.size < whole:
                last = slice(basis.size - self._tail, basis.size)
                coupling = basis.propose(basis.images[last], known=basis.projection[last], floor=floor)
                outside = torch.linalg.vector_norm(coupling.T @ coordinates[last], dim=0)
            else:
                residuals = basis.residuals(values, coordinates)
                inside = inner(residuals, basis.rows)
                outside = (inner(residuals, residuals).diagonal() - inside.square().sum(1)).clamp(min=0).sqrt()
            passed.append((values, outside))
            excess = self._measure(values, outside, ritz) / (_MARGIN * limits).clamp(min=1e-300)
            settled = excess <= 1
            if self.progress is not None:
                self.progress(self.spent, float(excess.max()) * self.tolerance)
            if basis.size == whole or (complete and bool(settled.all())):
                if audit and basis.size < whole and self._left() > 0:
                    audit = self._audit(ritz)
                    continue
                self.gap = self._seen_gap(passed, ritz)
                return self._found(ritz)
            if not self._tail:
                worst = excess.argsort(descending=True)[: min(self.block, int((~settled).sum()))]
                basis.propose(residuals[worst.to(residuals.device)], known=inside[worst], floor=floor)
            if not basis.proposed:
                self._propose_random(1)
            if basis.proposed > self._left():
                return self._found(ritz)
            if basis.room < basis.proposed:
                self._restart(ritz)
            if self._tail:
                self._tail = basis.proposed
            basis.commit()

    def _audit(self, ritz: Ritz) -> bool:
        """Whether a fresh direction moved a wanted value (then there must be another audit)."""
        basis = self.basis
        values = ritz.values[select(ritz.values, self.which, self.count)]
        steps = max(_AUDIT_LEAST, math.ceil(_AUDIT_SHARE * self.spent))
        spare = basis.capacity - self._ends * (self.count + self.guards)
        steps = min(steps, self._left(), basis.operator.size - basis.size, spare)
        self._tail, basis.proposed = 0, 0
        if basis.room < steps:
            self._restart(ritz, free=steps)
        for step in range(steps):
            if step:
                floor = 10 * self._epsilon * ritz.magnitude
                basis.propose(basis.images[-1:], known=basis.projection[-1:], floor=floor)
            if not step or not basis.proposed:
                self._propose_random(1)
            basis.commit()
        now = basis.ritz().values
        moved = (now[select(now, self.which, self.count)] - values).abs()
        return bool((moved > self._limits(values, ritz)).any())

    def _seen_gap(self, passed: list[tuple[Tensor, Tensor]], ritz: Ritz) -> float:
        """Smallest residual^2 / gain over the value: what a value gained since is at least the error that it had."""
        final = ritz.values[select(ritz.values, self.which, self.count + self.guards)]
        wanted = torch.isin(final, ritz.values[select(ritz.values, self.which, self.count)])
        smallest = math.inf
        for values, residuals in passed:
            if values.shape != final.shape:
                continue
            gain, size = (final - values).abs(), values.abs()
            told = wanted & (gain > _GAIN * size) & (residuals < _GUARD * size)
            if bool(told.any()):
                smallest = min(smallest, float((residuals**2 / (gain * size))[told].min()))
        return smallest

    def _restart(self, ritz: Ritz, free: int = 1) -> None:
        reach = self.count + self.guards
        spare = self.basis.capacity - self._ends * reach
        keep = reach + max(0, min(spare // 2, spare - max(free, self.basis.proposed))) // self._ends
        places = select(ritz.values, self.which, keep)
        self.basis.compress(ritz.values[places], ritz.coordinates[:, places])

    def _propose_random(self, rows: int) -> None:
        operator = self.basis.operator
        while not self.basis.proposed:
            fresh = torch.randn(rows, operator.size, generator=self._generator, dtype=operator.dtype)
            self.basis.propose(fresh.to(operator.device))

    def _limits(self, values: Tensor, ritz: Ritz) -> Tensor:
        scale = values.abs().clamp(min=self._epsilon ** (2 / 3) * ritz.magnitude)
        limits = (self.tolerance * scale).clamp(min=10 * self._epsilon * ritz.magnitude)
        if values.shape[0] > self._ends * self.count:
            places = select(ritz.values, self.which, self.count + self.guards)
            wanted = torch.isin(places, select(ritz.values, self.which, self.count))
            limits = torch.where(wanted, limits, torch.maximum(limits, _GUARD * scale))
        return limits

    def _measure(self, values: Tensor, residuals: Tensor, ritz: Ritz) -> Tensor:
        return residuals if self.crowd is None else value_errors(values, residuals, ritz.values, self.crowd)

    def _left(self) -> int:
        return self.budget - self.spent

    def _found(self, ritz: Ritz) -> Found:
        places = select(ritz.values, self.which, self.count)
        values, coordinates = ritz.values[places], ritz.coordinates[:, places]
        residuals = torch.linalg.vector_norm(self.basis.residuals(values, coordinates), dim=1).double().cpu()
        settled = self._measure(values, residuals, ritz) <= self._limits(values, ritz)
        errors = value_errors(values, residuals, ritz.values, self.crowd)
        errors = errors.clamp(min=10 * self._epsilon * ritz.magnitude)
        return Found(values, coordinates, residuals, errors, settled, self.spent)
