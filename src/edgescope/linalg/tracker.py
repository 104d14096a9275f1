"""Tracking of eigenpairs along a training run, each update starting from the eigenvectors of earlier ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError
from edgescope.linalg.basis import Basis
from edgescope.linalg.capacity import Capacity, best_capacity, fitting_capacity
from edgescope.linalg.eigenpairs import Eigenpairs, as_eigenpairs, check_request, seed_rows, whitened
from edgescope.linalg.metric import Metric, check_metric
from edgescope.linalg.operator import HasOperator, Operator, OperatorLike, as_operator
from edgescope.linalg.search import Search, SearchResult, Which, select
from edgescope.options import checked, integer, optional, real, type_of
from edgescope.short_errors import short_errors

# Chosen on small networks at the edge of stability, read every fifth step, and on matrices with exact crossings, for
# k=1 and 3: errors of values were below 5e-5. An earlier tracker started from the vectors of three updates and was
# expanded by residuals alone. Its errors were 3e-4 with the same assumed gaps, for half more products on one network,
# and an eighth fewer on another with five values within a twentieth; they were 1.3e-3 with a gap of 0.01 at every
# update, and 5e-4 with gaps of up to 0.03. Without vectors that are multiplied anew, exact crossings are missed.
_BESIDE = 11  # vectors kept beyond the k tracked ones: with 5 to 19 the number of products was the same within a tenth
_DROP = 0.02  # a direction with a smaller component of its own is not worth its product
_MIN_GAP = 0.005  # the assumed gap to the nearest other value, as a fraction of the value: at least this,
_MAX_GAP = 0.015  # and at most this, however large the observed gaps are
_GAP_SHARE = 0.25  # the assumed gap, as a fraction of the smallest one observed in the last updates
_GAPS = 10  # number of updates whose observed gaps are kept; fewer are not used
_CLOSE = 0.1  # the next value is a guard where it is closer to the last tracked one than this fraction of it
_CROSSING = 0.05  # of the others that are closer to it than this fraction of it, one is multiplied, another each time
_FRESH_EVERY = 5  # updates after which the values next to the tracked ones are found anew, as estimates get old,
_FRESH = 3  # and how many of them
_AUDIT_EVERY = 25  # updates between two audits for missed values, 4 products each
_NEAR, _FAR = 0.9, 0.8  # fractions of the threshold above which one more pair is tracked, and below which one fewer


@short_errors
class EigenTracker:
    """Tracks the ``k`` largest (or smallest, or both) eigenpairs of ``operator`` while it changes.

    Every ``update`` is a Rayleigh-Ritz step on the vectors of the last one, expanded while the estimated relative error
    of a **value**, residual^2 / (gap value^2), exceeds ``tol`` (the ``tol`` of :func:`top_eigenpairs` is that of the
    residual). The results' ``converged`` and ``error`` refer to this estimate. The relative gap is assumed to be 0.005;
    after ten updates it is a quarter of the smallest gap observed in the last ten (from how much values gained on their
    residuals), within 0.005 and 0.015. It is an estimate, not a bound.

    An expansion is the correction of a pair, (value - H)^(-1) residual, where H is estimated from the next eleven
    eigenpairs of the last update, which are not multiplied again: a Davidson method. A poor estimate takes more
    products, and gives no other results.

    The next value, where it is within a tenth of the last tracked one, is tracked roughly, so that crossings are
    detected. One more that was within a twentieth is multiplied, another one each time, and the next three at every
    fifth update. The first update starts from random vectors, and is audited for missed values as in
    :func:`top_eigenpairs`; so is every 25th. An operator with up to 16 rows is decomposed at every update, for as many
    products, where ``max_products`` allows it.

    Args:
        operator: an Objective, an :class:`Operator` or a dense symmetric matrix. It is evaluated at each update: an
            Objective at the present parameters of its model.
        k: number of eigenpairs, at each end for ``which="both"``.
        tol: tolerance of the estimated relative error of each **value**.
        which: "largest", "smallest" or "both", in algebraic order.
        metric: as for :func:`top_eigenpairs`.
        threshold: one more pair is tracked when the lowest tracked value reaches 0.9 of it, and one fewer when the
            lowest but one falls below 0.8 of it. Only for the largest.
        max_pairs: the largest number of pairs tracked, by default k + 8.
        max_products: the largest number of products of an update, by default 100 + 20 k; pairs that have not converged
            by then are returned as such.
        seed: seed of the random vectors.

    Cost: at the edge of stability of small networks, 4 to 12 products an update for k=1. Memory: k + 11 vectors between
    updates, and in one a basis of k + 24 and more, fewer where they do not fit (see ``note`` of the result).
    Source of the corrections: Davidson, J. Comput. Phys. 17 (1975) 87.
    """

    @checked(
        k=integer(1),
        tol=real(above=0, below=1),
        threshold=optional(real(most=math.inf)),
        max_pairs=optional(integer(1)),
        max_products=optional(integer(1)),
        metric=check_metric,
    )
    def __init__(
        self,
        operator: OperatorLike,
        k: int = 1,
        *,
        tol: float = 1e-3,
        which: Which = "largest",
        metric: Metric | None = None,
        threshold: float | None = None,
        max_pairs: int | None = None,
        max_products: int | None = None,
        seed: int = 0,
    ) -> None:
        check_request(k, which)
        _check_threshold(threshold, which)
        if max_pairs is not None and max_pairs < k:
            raise InputError(f"max_pairs={max_pairs}", expected=f"at least k={k}")
        if max_products is not None and max_products < 2 * k:
            raise InputError(f"max_products={max_products} for k={k}", expected=f"at least {2 * k}")
        if not isinstance(operator, Operator | HasOperator | Tensor | np.ndarray):
            as_operator(operator)  # which says what is wrong with it
        self.operator = operator
        self.metric = metric
        self.threshold = threshold
        self.k = k
        self._min_pairs, self._max_pairs = k, k + 8 if max_pairs is None else max_pairs
        self._value_tol, self._which, self._max_products, self._seed = tol, which, max_products, seed
        self._known: _Known | None = None  # of the last update
        self._gaps: list[float] = []  # observed in the last updates, newest last
        self._updates = 0
        self._basis: Basis | None = None
        self._capacity: Capacity | None = None

    @checked(metric=check_metric, threshold=optional(real(most=math.inf)))
    @in_plain_arithmetic
    def update(
        self, operator: OperatorLike | None = None, metric: Metric | None = None, threshold: float | None = None
    ) -> Eigenpairs:
        """The eigenpairs now. An ``operator``, ``metric`` or ``threshold`` given here replaces the earlier one.

        Raises :class:`InputError` where the operator's size is not that of earlier updates.
        """
        began = time.perf_counter()
        _check_threshold(threshold, self._which)
        self.operator = self.operator if operator is None else operator
        self.metric = self.metric if metric is None else metric
        self.threshold = self.threshold if threshold is None else threshold
        operator = whitened(as_operator(self.operator), self.metric)
        paid = operator.spent
        wanted = check_request(self.k, self._which, operator.size)
        budget = 100 + 20 * wanted if self._max_products is None else self._max_products
        with operator.held():
            known = self._resumed(operator, budget)
            self._basis = self._basis_for(operator, wanted, known)
            if known is not None and self._capacity is not None and self._capacity.note is not None:
                known = known.only(known.again)  # no memory for an estimate
            search = Search(
                self._basis,
                self._which,
                self.k,
                value_tol=self._value_tol,
                assumed_relative_gap=self._assumed_relative_gap(),
                generator=torch.Generator().manual_seed(self._seed + self._updates),
                budget=budget,
            )
            result = self._found(search, self._basis, known)
        note = self._capacity.note if self._capacity is not None else None
        cost, seconds = operator.spent - paid, time.perf_counter() - began
        self._known = self._remembered(self._basis, result)
        vectors = self._known.rows[: result.values.shape[0]].clone().T
        pairs = as_eigenpairs(result, vectors, operator.mode, cost, seconds, "value", note)
        if math.isfinite(search.observed_gap):
            self._gaps = [*self._gaps, search.observed_gap][-_GAPS:]
        self._updates += 1
        if self.threshold is not None and self.k > self._min_pairs and float(pairs.values[-2]) < _FAR * self.threshold:
            self.k -= 1
        return pairs

    def _basis_for(self, operator: Operator, wanted: int, known: _Known | None) -> Basis:
        """An empty basis, in the memory of the last one where that is enough."""
        seeds, outside = (0, 1) if known is None else (int(known.again.sum()), known.rows.shape[0])
        best = best_capacity(wanted, seeds=seeds)
        if self._basis is not None and self._basis.clear(operator, best, 1 + outside):
            return self._basis
        self._basis = None  # before memory for another is looked for
        width = 1 + outside
        self._capacity = fitting_capacity(operator, best, wanted, 1, width)
        if self._capacity.note is not None and known is not None:
            width = 1 + seeds
            self._capacity = fitting_capacity(operator, best, wanted, 1, width)
        return Basis(operator, self._capacity.rows, width)

    def _found(self, search: Search, basis: Basis, known: _Known | None) -> SearchResult:
        """The pairs from these vectors; one more where the lowest comes near the threshold."""
        size = basis.operator.size
        if known is None:
            search.initialise(None, _DROP)
        else:
            search.resume(known.rows, known.values, known.again, _DROP)
        audit = self._updates % _AUDIT_EVERY == 0
        more = check_request(self.k, self._which, size) < size
        search.guards = int((audit and known is not None and more) or self._next_is_close(basis))
        result = search.run(audit=audit)
        near = math.inf if self.threshold is None else _NEAR * self.threshold
        while float(result.values[-1]) >= near and self.k < min(self._max_pairs, size):
            self.k += 1
            search.count = self.k
            result = search.run(audit=False)
        return result

    def _assumed_relative_gap(self) -> float:
        """The gap to the nearest other value, as a fraction of the value, that the error estimate assumes."""
        if len(self._gaps) < _GAPS:
            return _MIN_GAP
        return min(max(_GAP_SHARE * min(self._gaps), _MIN_GAP), _MAX_GAP)

    def _resumed(self, operator: Operator, budget: int) -> _Known | None:
        """What is known from the last update, and which of it is to be multiplied: the tracked vectors, and guards."""
        known = self._known
        if known is None:
            return None
        if known.rows.shape[1] != operator.size:
            raise InputError(
                f"an operator of size {operator.size} for a tracker whose history has vectors of length "
                f"{known.rows.shape[1]}",
                hint="a new tracker",
            )
        # A state that was kept on disk lies on the CPU, and what was found since then where the operator is.
        rows = known.rows.to(operator.device, operator.dtype)
        rows = rows if self.metric is None else seed_rows(rows.T, operator, self.metric, finite=True)
        again, count = known.again.clone(), int(known.again.sum())
        ends = {"largest": [(-1, 1)], "smallest": [(0, -1)], "both": [(self.k - 1, 1), (self.k, -1)]}[self._which]
        fresh = self._updates % _FRESH_EVERY == 0
        for turn, (inner, sign) in enumerate(ends):
            beside = slice(count + turn, None, len(ends))
            last = known.values[:count][min(inner, count - 1)]
            distances = sign * (last - known.values[beside]) / last.abs().clamp(min=1e-300)
            chosen = again[beside]
            chosen[:1] = distances[:1] <= _CLOSE
            near = 1 + (distances[1:] <= _CROSSING).nonzero()[:, 0]
            if near.numel():
                chosen[near[self._updates % near.numel()]] = True
            chosen[:_FRESH] |= fresh
        return _Known(rows, known.values, again & (again.cumsum(0) <= budget))

    def _next_is_close(self, basis: Basis) -> bool:
        """Whether the Ritz value next to the tracked ones is close to them."""
        values, k = basis.ritz().values, self.k
        ends = {"largest": [values], "smallest": [values.flip(0)], "both": [values, values.flip(0)]}[self._which]
        if values.shape[0] <= k * len(ends):
            return False
        return any(float((end[k - 1] - end[k]).abs()) <= _CLOSE * float(end[k - 1].abs()) for end in ends)

    def _remembered(self, basis: Basis, result: SearchResult) -> _Known:
        """Vectors to start from: the pairs found and, of the operator outside of these, as far as it was multiplied or
        is estimated, those next to them, nearest first; at the two ends in turn for "both"."""
        ritz, count, outward = basis.ritz(), result.values.shape[0], basis.outward
        others = ~torch.isin(torch.arange(basis.size, device="cpu"), select(ritz.values, self._which, self.k))
        coordinates = ritz.coordinates[:, others]
        crossing = coordinates.T @ basis.coupling
        outside = crossing.new_zeros(outward, outward) if basis.estimate is None else basis.estimate.matrix
        within = torch.cat([torch.diag(ritz.values[others]), crossing], dim=1)
        values, axes = torch.linalg.eigh(torch.cat([within, torch.cat([crossing.T, outside], dim=1)]))
        up = torch.arange(values.shape[0], device="cpu")
        down = up.flip(0)
        turns = {"largest": down, "smallest": up, "both": torch.stack([down, up], dim=1).flatten()[: len(up)]}
        room = 0 if self._capacity is not None and self._capacity.note is not None else _BESIDE
        chosen = turns[self._which][: max(room, 2 if self._which == "both" else 1)]
        lift = torch.block_diag(coordinates, torch.eye(outward, dtype=torch.float64, device="cpu"))
        found = torch.cat([result.coordinates, result.coordinates.new_zeros(outward, count)])
        rows = basis.combine(torch.cat([found, lift @ axes[:, chosen]], dim=1))
        rows = rows if self.metric is None else self.metric.inverse_root(rows.T).T.contiguous()
        again = torch.arange(rows.shape[0], device="cpu") < count
        return _Known(rows, torch.cat([result.values, values[chosen]]), again)

    def state(self) -> dict[str, Tensor]:
        """The state from which a resumed run continues bit for bit: what is known, and the number of pairs."""
        counts = {"k": torch.tensor(self.k, device="cpu"), "updates": torch.tensor(self._updates, device="cpu")}
        counts["gaps"] = torch.tensor(self._gaps, dtype=torch.float64, device="cpu")
        if self._known is None:
            return counts
        known = {"vectors": self._known.rows, "values": self._known.values, "tracked": self._known.again}
        return counts | {name: rows.clone() for name, rows in known.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a result of ``state()``."""
        if not isinstance(state, Mapping):
            raise InputError(f"a tracker state that is {type_of(state)}", expected="a result of state()")
        try:
            self.k, self._updates = int(state["k"]), int(state["updates"])
            self._gaps = state["gaps"].tolist()
        except KeyError as error:
            raise InputError(f"a tracker state without {error}", expected="a result of state()") from error
        self._known = None
        if "vectors" in state:
            self._known = _Known(*(state[name].clone() for name in ("vectors", "values", "tracked")))


@dataclass(frozen=True)
class _Known:
    """Orthonormal rows with their values in an earlier update, and which of them are to be multiplied again."""

    rows: Float[Tensor, "j P"]
    values: Float[Tensor, " j"]
    again: Bool[Tensor, " j"]

    def only(self, chosen: Bool[Tensor, " j"]) -> _Known:
        return _Known(self.rows[chosen.to(self.rows.device)], self.values[chosen], self.again[chosen])


def _check_threshold(threshold: float | None, which: Which) -> None:
    if threshold is not None and which != "largest":
        raise InputError(f"a threshold for which='{which}'", expected="which='largest'")
