"""Generalized sharpness in the sum of block norms: eigenvalues of single blocks below, norms of couplings above."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.blocks import Blocks
from edgescope.linalg import EigenvalueBound, Operator, top_eigenpairs
from edgescope.sharpness.ascent import climb, inner
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.solver_options import FAILURE_PROBABILITY, SolverOptions

_CHUNK = 2
_WHOLE = 24  # products for the eigenvalue of H that bounds later measurements
_MAX_PRODUCTS = 60  # products on one eigenvalue


def by_blocks(geometry: Blocks, options: SolverOptions) -> GeneralizedSharpness:
    """max_j lambda_max(H_jj) <= S <= max_{j,k} ||H_jk||_op: d'Hd is a mean of u_j' H_jk u_k, weighted by |d_j||d_k|.

    For j != k the norm is at most sqrt((lambda_max(H_jj) + nu) (lambda_max(H_kk) + nu)), nu = max(0, -lambda_min(H)),
    because H + nu is positive; so near the edge of stability, where nu is small, both bounds agree. Where that does not
    suffice the norm itself is bounded. Every eigenvalue is a Lanczos run. The run that the upper bound depends on most
    is extended, until the bounds agree to within tol or the products are spent: some 90 for a small network. A later
    measurement of a run uses the eigenvalue of H as its upper bound instead, which is above S too, for half as many.
    """
    if options.previous:
        return _tracked(geometry, options)
    operator = options.operator
    search = _BlockSearch(geometry, options)
    search.run()
    before = operator.products
    starts, steps = [search.embedded(search.leading())], 0
    if search.upper() > (1 + options.tol) * search.lower():  # a mean of several blocks may lie higher
        starts, steps = [search.embedded(block) for block in range(len(search.blocks))], options.iterations
        starts.append(options.random(max(options.restarts - len(starts), 0)))
    end = climb(operator, geometry, torch.cat(starts, dim=1), steps, options.tol)
    best = end.best()
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=max(search.upper(), float(end.values[best])) if options.certificate else math.inf,
        confidence=search.confidence if options.certificate else 1.0,
        direction=end.points[:, best].clone(),
        converged=search.settled,
        method=options.method,
        lower_products=operator.products - before + search.spent(search.blocks),
        upper_products=search.spent([search.negative, *search.pairs.values()]),
        state={"tops": torch.cat([bound.vectors(1)[:, 0].to(operator.dtype) for bound in search.blocks])},
    )


def _tracked(geometry: Blocks, options: SolverOptions) -> GeneralizedSharpness:
    """The eigenvalue of the block that is largest by the vectors of an earlier result, and as upper bound that of H."""
    operator, before = options.operator, options.operator.products
    places = _places(geometry)
    tops = options.from_previous("tops", operator.size)
    if tops is None:
        tops = options.from_previous("direction", operator.size)
    assert tops is not None  # the previous state has a direction
    block = torch.cat([_among(operator, tops[place, None], place) for place in places], dim=1)
    lengths = inner(block, block)
    quotients = inner(block, operator @ block) / torch.where(lengths > 0, lengths, 1.0)
    place = places[int(quotients.argmax())]
    pairs = top_eigenpairs(_restricted(operator, place), tol=options.tol, start=tops[place, None], seed=options.seed)
    tops = tops.clone()
    tops[place] = pairs.vectors[:, 0]
    lower, lower_products = float(pairs.values[0]), operator.products - before
    upper, confidence = math.inf, 1.0
    if options.certificate:
        whole = EigenvalueBound(
            operator, max_steps=_WHOLE, failure_probability=FAILURE_PROBABILITY, seed=options.seed
        ).extend(_WHOLE)
        upper, confidence = max(0.0, whole.upper, lower), whole.confidence
    return GeneralizedSharpness(
        lower=lower,
        upper=upper,
        confidence=confidence,
        direction=_among(operator, pairs.vectors, place)[:, 0],
        converged=bool(pairs.converged[0]),
        method=options.method,
        lower_products=lower_products,
        upper_products=operator.products - before - lower_products,
        state={"tops": tops},
    )


def _places(geometry: Blocks) -> list[slice]:
    ends = list(itertools.accumulate(geometry.sizes()))
    return [slice(end - size, end) for size, end in zip(geometry.sizes(), ends, strict=True)]


class _BlockSearch:
    def __init__(self, geometry: Blocks, options: SolverOptions) -> None:
        self.options, self.operator = options, options.operator
        self.places = _places(geometry)
        count = len(self.places)
        runs = count * (count + 1) // 2 + 1  # all that may be drawn: a block each, a pair each, and nu
        self.failure = FAILURE_PROBABILITY / runs
        self.budget = 6 * options.iterations
        self.before = self.operator.products
        self.blocks = [
            self._bound(_restricted(self.operator, place), number) for number, place in enumerate(self.places)
        ]
        self.negative = self._bound(_negated(self.operator), count)
        self.pairs: dict[tuple[int, int], EigenvalueBound] = {}

    @property
    def confidence(self) -> float:
        return 1.0 if all(b.confidence == 1 for b in self.blocks) else 1 - FAILURE_PROBABILITY

    @property
    def settled(self) -> bool:
        leader = self.blocks[self.leading()]
        return leader.upper - leader.lower <= self.options.tol * abs(leader.upper)

    def run(self) -> None:
        """Extend one Lanczos run after the other."""
        for bound in self.blocks:
            bound.extend(_CHUNK)
        if self.options.certificate:
            self.negative.extend(_CHUNK)
        while self.upper() > (1 + self.options.tol) * self.lower():
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
        return [(j, k) for j in range(count) for k in range(j, count) if self.options.certificate or j == k]

    def _above(self, j: int, k: int) -> float:
        if j == k:
            return self.blocks[j].upper
        nu = max(0.0, self.negative.upper)
        through = math.sqrt(max(0.0, self.blocks[j].upper + nu) * max(0.0, self.blocks[k].upper + nu))
        return min(through, self.pairs[j, k].upper) if (j, k) in self.pairs else through

    def _deciding(self) -> EigenvalueBound | None:
        """The run whose error the upper bound depends on most, or None where all that matter are exhausted."""
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
        seed = self.options.seed + 17 * (number + 1)  # a start of its own for each
        return EigenvalueBound(operator, max_steps=_MAX_PRODUCTS, failure_probability=self.failure, seed=seed)


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
    return operator.derived(apply, size=size, matrix=matrix)


def _among(operator: Operator, block: Tensor, place: slice) -> Tensor:
    whole = block.new_zeros(operator.size, block.shape[1])
    whole[place] = block
    return whole
