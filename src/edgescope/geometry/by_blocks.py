"""Generalized sharpness in the sum of block norms: the largest eigenvalues of single blocks, and what tops them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.ascent import climb
from edgescope.geometry.blocks import Blocks
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.linalg import EigenvalueBound, Operator

_CHUNK = 4
_MOST = 60  # products on one eigenvalue


def by_blocks(geometry: Blocks, asked: Asked) -> GeneralizedSharpness:
    """max_j lambda_max(H_jj) <= S <= max_{j,k} ||H_jk||_op: d'Hd is a mean of u_j' H_jk u_k, weighted by |d_j||d_k|.

    For j != k the norm is at most sqrt((lambda_max(H_jj) + nu) (lambda_max(H_kk) + nu)), nu = max(0, -lambda_min(H)),
    because H + nu is positive; so near the edge of stability, where nu is small, both ends meet. Where that does not
    suffice the norm itself is bounded. Every eigenvalue is a Lanczos run; each time the one that the upper end depends
    on most goes on, until the ends agree to within tol or the products are spent.
    """
    search = _Blockwise(geometry, asked)
    search.run()
    before = asked.operator.products
    starts = [search.embedded(search.leading())]
    loose = search.upper() > (1 + asked.tol) * search.lower()
    if loose:
        starts = [search.embedded(block) for block in range(len(search.blocks))]
        if asked.gradient is not None:
            starts.append(geometry.steepest(asked.gradient)[:, None])
    end = climb(asked.operator, geometry, torch.cat(starts, dim=1), asked.iterations if loose else 0, asked.tol)
    best = end.best()
    tops = torch.cat([bound.vectors(1)[:, 0].to(asked.operator.dtype) for bound in search.blocks])
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=max(search.upper(), float(end.values[best])) if asked.certificate else math.inf,
        confidence=search.confidence if asked.certificate else 1.0,
        direction=end.points[:, best].clone(),
        converged=search.settled,
        method=asked.method,
        lower_products=asked.operator.products - before + search.spent(search.blocks),
        upper_products=search.spent([search.negative, *search.pairs.values()]),
        state={"tops": tops},
    )


class _Blockwise:
    def __init__(self, geometry: Blocks, asked: Asked) -> None:
        self.asked, self.operator = asked, asked.operator
        sizes = geometry.sizes()
        ends = list(itertools.accumulate(sizes))
        self.places = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        runs = len(sizes) * (len(sizes) + 1) // 2 + 1  # all that may be drawn: a block each, a pair each, and nu
        self.failure = FAILURE / runs
        known = asked.recalled("tops", self.operator.size)
        self.budget = asked.iterations if known is not None else 6 * asked.iterations
        self.before = self.operator.products
        self.blocks = [
            self._bound(_restricted(self.operator, place), number, None if known is None else known[place, None])
            for number, place in enumerate(self.places)
        ]
        self.negative = self._bound(_negated(self.operator), len(sizes))
        self.pairs: dict[tuple[int, int], EigenvalueBound] = {}

    @property
    def confidence(self) -> float:
        return 1.0 if all(b.confidence == 1 for b in self.blocks) else 1 - FAILURE

    @property
    def settled(self) -> bool:
        leader = self.blocks[self.leading()]
        return leader.upper - leader.lower <= self.asked.tol * abs(leader.upper)

    def run(self) -> None:
        """Extend one Lanczos run after the other."""
        for bound in self.blocks:
            bound.extend(_CHUNK)
        if self.asked.certificate:
            self.negative.extend(2 * _CHUNK)
        while self.upper() > (1 + self.asked.tol) * self.lower() and self.operator.products - self.before < self.budget:
            wanting = [bound for bound in self._deciding() if not bound.exhausted]
            if not wanting:
                return
            max(wanting, key=lambda bound: bound.upper - bound.lower).extend(_CHUNK)

    def leading(self) -> int:
        return max(range(len(self.blocks)), key=lambda block: self.blocks[block].lower)

    def lower(self) -> float:
        return max(bound.lower for bound in self.blocks)

    def upper(self) -> float:
        return max(0.0, *(self._above(*pair) for pair in self._all_pairs()))

    def embedded(self, block: int) -> Float[Tensor, "P 1"]:
        """The top vector of a block, among zeros."""
        whole = torch.zeros(self.operator.size, 1, dtype=self.operator.dtype, device=self.operator.device)
        whole[self.places[block]] = self.blocks[block].vectors(1).to(whole)
        return whole

    def spent(self, bounds: list[EigenvalueBound]) -> int:
        return sum(bound.products for bound in bounds)

    def _all_pairs(self) -> list[tuple[int, int]]:
        count = len(self.blocks)
        return [(j, k) for j in range(count) for k in range(j, count) if self.asked.certificate or j == k]

    def _above(self, j: int, k: int) -> float:
        if j == k:
            return self.blocks[j].upper
        nu = max(0.0, self.negative.upper)
        through = math.sqrt(max(0.0, self.blocks[j].upper + nu) * max(0.0, self.blocks[k].upper + nu))
        return min(through, self.pairs[j, k].upper) if (j, k) in self.pairs else through

    def _deciding(self) -> list[EigenvalueBound]:
        j, k = max(self._all_pairs(), key=lambda pair: self._above(*pair))
        if j == k:
            return [self.blocks[j]]
        nu = max(0.0, self.negative.lower)
        through = math.sqrt(max(0.0, self.blocks[j].lower + nu) * max(0.0, self.blocks[k].lower + nu))
        if through <= self.lower() and (j, k) not in self.pairs:
            return [self.blocks[j], self.blocks[k], self.negative]
        if (j, k) not in self.pairs:
            number = 1 + len(self.blocks) + len(self.pairs)
            self.pairs[j, k] = self._bound(_coupling(self.operator, self.places[j], self.places[k]), number)
        return [self.pairs[j, k]]

    def _bound(self, operator: Operator, number: int, start: Tensor | None = None) -> EigenvalueBound:
        return EigenvalueBound(
            operator, start=start, most=_MOST, failure=self.failure, seed=self.asked.seed + 17 * (number + 1)
        )


def _restricted(operator: Operator, place: slice) -> Operator:
    """H_jj."""
    matrix = None if operator.matrix is None else operator.matrix[place, place]
    return _derived(
        operator, place.stop - place.start, lambda block: (operator @ _among(operator, block, place))[place], matrix
    )


def _negated(operator: Operator) -> Operator:
    matrix = None if operator.matrix is None else -operator.matrix
    return _derived(operator, operator.size, lambda block: -(operator @ block), matrix)


def _coupling(operator: Operator, first: slice, second: slice) -> Operator:
    """[[0, H_jk], [H_kj, 0]], whose largest eigenvalue is ||H_jk||; two products for one."""
    size = first.stop - first.start

    def apply(block: Tensor) -> Tensor:
        top = operator @ _among(operator, block[size:], second)
        bottom = operator @ _among(operator, block[:size], first)
        return torch.cat([top[first], bottom[second]])

    matrix = None
    if operator.matrix is not None:
        corner = operator.matrix[first, second]
        matrix = torch.cat(
            [
                torch.cat([corner.new_zeros(size, size), corner], dim=1),
                torch.cat([corner.T, corner.new_zeros(corner.shape[1], corner.shape[1])], dim=1),
            ]
        )
    return _derived(operator, size + second.stop - second.start, apply, matrix)


def _derived(operator: Operator, size: int, apply: Callable[[Tensor], Tensor], matrix: Tensor | None) -> Operator:
    return Operator(size, apply, dtype=operator.dtype, device=operator.device, matrix=matrix)


def _among(operator: Operator, block: Tensor, place: slice) -> Tensor:
    whole = block.new_zeros(operator.size, block.shape[1])
    whole[place] = block
    return whole
