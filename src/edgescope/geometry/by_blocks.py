"""Generalized sharpness in the sum of block norms: the largest eigenvalues of single blocks, and what tops them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.ascent import climb, inner
from edgescope.geometry.blocks import Blocks
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.linalg import EigenvalueBound, Operator, top_eigenpairs

_CHUNK = 2
_WHOLE = 24  # products for the eigenvalue of H that bounds later measurements
_MOST = 60  # products on one eigenvalue


def by_blocks(geometry: Blocks, asked: Asked) -> GeneralizedSharpness:
    """max_j lambda_max(H_jj) <= S <= max_{j,k} ||H_jk||_op: d'Hd is a mean of u_j' H_jk u_k, weighted by |d_j||d_k|.

    For j != k the norm is at most sqrt((lambda_max(H_jj) + nu) (lambda_max(H_kk) + nu)), nu = max(0, -lambda_min(H)),
    because H + nu is positive; so near the edge of stability, where nu is small, both ends meet. Where that does not
    suffice the norm itself is bounded. Every eigenvalue is a Lanczos run; each time the one that the upper end depends
    on most goes on, until the ends agree to within tol or the products are spent; some 90 for a small network. A later
    measurement of a run takes the eigenvalue of H for its upper end instead, which is above S too, and half that.
    """
    if asked.memory:
        return _followed(geometry, asked)
    operator = asked.operator
    search = _Blockwise(geometry, asked)
    search.run()
    before = operator.products
    starts, steps = [search.embedded(search.leading())], 0
    if search.upper() > (1 + asked.tol) * search.lower():  # a mean of several blocks may lie higher
        starts, steps = [search.embedded(block) for block in range(len(search.blocks))], asked.iterations
        starts.append(asked.random(max(asked.restarts - len(starts), 0)))
    end = climb(operator, geometry, torch.cat(starts, dim=1), steps, asked.tol)
    best = end.best()
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=max(search.upper(), float(end.values[best])) if asked.certificate else math.inf,
        confidence=search.confidence if asked.certificate else 1.0,
        direction=end.points[:, best].clone(),
        converged=search.settled,
        method=asked.method,
        lower_products=operator.products - before + search.spent(search.blocks),
        upper_products=search.spent([search.negative, *search.pairs.values()]),
        state={"tops": torch.cat([bound.vectors(1)[:, 0].to(operator.dtype) for bound in search.blocks])},
    )


def _followed(geometry: Blocks, asked: Asked) -> GeneralizedSharpness:
    """From below the eigenvalue of the block that leads by the vectors of an earlier result; from above that of H."""
    operator, before = asked.operator, asked.operator.products
    places = _places(geometry)
    tops = asked.recalled("tops", operator.size)
    if tops is None:
        tops = asked.recalled("direction", operator.size)
    assert tops is not None  # a memory has a direction
    block = torch.cat([_among(operator, tops[place, None], place) for place in places], dim=1)
    lengths = inner(block, block)
    quotients = inner(block, operator @ block) / torch.where(lengths > 0, lengths, 1.0)
    place = places[int(quotients.argmax())]
    pairs = top_eigenpairs(_restricted(operator, place), tol=asked.tol, start=tops[place, None], seed=asked.seed)
    tops = tops.clone()
    tops[place] = pairs.vectors[:, 0]
    lower, lower_products = float(pairs.values[0]), operator.products - before
    upper, confidence = math.inf, 1.0
    if asked.certificate:
        whole = EigenvalueBound(operator, most=_WHOLE, failure=FAILURE, seed=asked.seed).extend(_WHOLE)
        upper, confidence = max(0.0, whole.upper, lower), whole.confidence
    return GeneralizedSharpness(
        lower=lower,
        upper=upper,
        confidence=confidence,
        direction=_among(operator, pairs.vectors, place)[:, 0],
        converged=bool(pairs.converged[0]),
        method=asked.method,
        lower_products=lower_products,
        upper_products=operator.products - before - lower_products,
        state={"tops": tops},
    )


def _places(geometry: Blocks) -> list[slice]:
    ends = list(itertools.accumulate(geometry.sizes()))
    return [slice(end - size, end) for size, end in zip(geometry.sizes(), ends, strict=True)]


class _Blockwise:
    def __init__(self, geometry: Blocks, asked: Asked) -> None:
        self.asked, self.operator = asked, asked.operator
        self.places = _places(geometry)
        count = len(self.places)
        runs = count * (count + 1) // 2 + 1  # all that may be drawn: a block each, a pair each, and nu
        self.failure = FAILURE / runs
        self.budget = 6 * asked.iterations
        self.before = self.operator.products
        self.blocks = [
            self._bound(_restricted(self.operator, place), number) for number, place in enumerate(self.places)
        ]
        self.negative = self._bound(_negated(self.operator), count)
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
            self.negative.extend(_CHUNK)
        while self.upper() > (1 + self.asked.tol) * self.lower():
            wanted = self._deciding()
            if wanted is None or self.operator.products + _CHUNK - self.before > self.budget:
                return
            wanted.extend(_CHUNK)

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

    def _deciding(self) -> EigenvalueBound | None:
        """The run whose loose end the upper end is most sensitive to, or None where all that matter are exhausted."""
        j, k = max(self._all_pairs(), key=lambda pair: self._above(*pair))
        if j == k:
            shares = {self.blocks[j]: 1.0}
        elif (j, k) in self.pairs:
            shares = {self.pairs[j, k]: 1.0}
        else:
            nu = max(0.0, self.negative.upper)
            shares = {self.blocks[i]: 1 / max(self.blocks[i].upper + nu, 1e-300) for i in (j, k)}
            shares[self.negative] = sum(shares.values())
            least = max(0.0, self.negative.lower)
            through = [max(0.0, self.blocks[i].lower + least) for i in (j, k)]
            if math.sqrt(through[0] * through[1]) > self.lower() or all(run.exhausted for run in shares):
                number = 1 + len(self.blocks) + len(self.pairs)
                coupling = _coupling(self.operator, self.places[j], self.places[k])
                self.pairs[j, k] = self._bound(coupling, number)
                shares = {self.pairs[j, k]: 1.0}
        wanting = [(share * (run.upper - run.lower), run) for run, share in shares.items() if not run.exhausted]
        return max(wanting, key=lambda pair: pair[0])[1] if wanting else None

    def _bound(self, operator: Operator, number: int) -> EigenvalueBound:
        seed = self.asked.seed + 17 * (number + 1)  # a start of its own for each
        return EigenvalueBound(operator, most=_MOST, failure=self.failure, seed=seed)


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
