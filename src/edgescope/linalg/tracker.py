"""Tracking of eigenpairs along a training run, each update starting from the eigenvectors of earlier ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
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

# Chosen on small networks (tanh, relu, gelu; half-MSE, cross-entropy; at the edge of stability and below it) of up to
# 200 steps, and on matrices with exact crossings, for k=1 and 3. Errors of values were 1.3e-3 with a fixed gap of 0.01,
# 5e-4 with observed gaps of up to 0.03, and 3e-4 with observed gaps of up to 0.015. Without a guard, or with seeds used
# one at a time, exact crossings are missed.
_HISTORY = 3  # updates whose vectors are kept: at the edge iterates have period two; a fourth costs more than it saves
_DROP = 0.02  # a direction of the history with a smaller component of its own is not worth its product
_MIN_GAP = 0.005  # the assumed gap to the nearest other value, as a fraction of the value: at least this,
_MAX_GAP = 0.015  # and at most this, however large the observed gaps are
_GAP_SHARE = 0.25  # the assumed gap, as a fraction of the smallest one observed in the last updates
_GAPS = 10  # number of updates whose observed gaps are kept; fewer are not used
_CLOSE = 0.1  # the next value is a guard where it is closer to the last tracked one than this fraction of it
_GUARD_HISTORY = 2  # updates whose guard vectors are kept
_SPARE = 3  # vectors beyond k that the first update keeps, since there is no history yet
_AUDIT_EVERY = 25  # updates between two audits for missed values, 4 products each
_NEAR, _FAR = 0.9, 0.8  # fractions of the threshold above which one more pair is tracked, and below which one fewer


@short_errors
class EigenTracker:
    """Tracks the ``k`` largest (or smallest, or both) eigenpairs of ``operator`` while it changes.

    Every ``update`` is a Rayleigh-Ritz step on the vectors of the last three updates. It is expanded by residuals while
    the estimated relative error of a **value**, residual^2 / (gap value^2), exceeds ``tol`` (the ``tol`` of
    :func:`top_eigenpairs` is that of the residual). The results' ``converged`` and ``error`` refer to this estimate.
    The relative gap is assumed to be 0.005; after ten updates it is a quarter of the smallest gap observed in the last
    ten (from how much values gained on their residuals), within 0.005 and 0.015. It is an estimate, not a bound.

    The next value, where it is within a tenth of the last tracked one, is tracked roughly, so that crossings are
    detected. The first update starts from random vectors, and is audited for missed values as in
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

    Cost: at the edge of stability of small networks, 4 to 7 products an update for k=1. Memory: a basis of 12 vectors
    beyond the history's, fewer where they do not fit (see ``note`` of the result), and a history of up to 3 k + 2
    vectors.
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
        self._history: list[Float[Tensor, "j P"]] = []  # newest first
        self._guards: list[Float[Tensor, "j P"]] = []
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
        seeds = self._seeds(operator, budget)
        started = 0 if seeds is None else seeds.shape[0]
        best, width = best_capacity(wanted, seeds=started), 1 + max(started, 1)
        with operator.held():
            if self._basis is None or not self._basis.clear(operator, best, width):
                self._basis = None  # before memory for another is looked for
                self._capacity = fitting_capacity(operator, best, wanted, 1, width)
                self._basis = Basis(operator, self._capacity.rows, width)
            search = Search(
                self._basis,
                self._which,
                self.k,
                value_tol=self._value_tol,
                assumed_relative_gap=self._assumed_relative_gap(),
                generator=torch.Generator().manual_seed(self._seed + self._updates),
                budget=budget,
            )
            result = self._found(search, self._basis, seeds)
        note = self._capacity.note if self._capacity is not None else None
        cost, seconds = operator.spent - paid, time.perf_counter() - began
        pairs = as_eigenpairs(result, self._basis, self.metric, cost, seconds, "value", note)
        self._remember(self._basis, result)
        if math.isfinite(search.observed_gap):
            self._gaps = [*self._gaps, search.observed_gap][-_GAPS:]
        self._updates += 1
        if self.threshold is not None and self.k > self._min_pairs and float(pairs.values[-2]) < _FAR * self.threshold:
            self.k -= 1
        return pairs

    def _found(self, search: Search, basis: Basis, seeds: Float[Tensor, "j P"] | None) -> SearchResult:
        """The pairs from these seeds; one more where the lowest comes near the threshold."""
        size = basis.operator.size
        search.initialise(seeds, _DROP)
        audit = self._updates % _AUDIT_EVERY == 0
        more = check_request(self.k, self._which, size) < size
        search.guards = int((audit and seeds is not None and more) or self._next_is_close(basis))
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

    def _seeds(self, operator: Operator, budget: int) -> Float[Tensor, "j P"] | None:
        if not self._history:
            return None
        length = self._history[0].shape[1]
        if length != operator.size:
            raise InputError(
                f"an operator of size {operator.size} for a tracker whose history has vectors of length {length}",
                hint="a new tracker",
            )
        # A state that was kept on disk lies on the CPU, and what was found since then where the operator is.
        known = [rows.to(operator.device) for rows in self._history + self._guards]
        return seed_rows(torch.cat(known).T, operator, self.metric, finite=True)[:budget]

    def _next_is_close(self, basis: Basis) -> bool:
        """Whether the Ritz value next to the tracked ones is close to them."""
        values, k = basis.ritz().values, self.k
        ends = {"largest": [values], "smallest": [values.flip(0)], "both": [values, values.flip(0)]}[self._which]
        if values.shape[0] <= k * len(ends):
            return False
        return any(float((end[k - 1] - end[k]).abs()) <= _CLOSE * float(end[k - 1].abs()) for end in ends)

    def _remember(self, basis: Basis, result: SearchResult) -> None:
        """Put the vectors of this update, and those of its guards, at the head of the history."""
        ritz = basis.ritz()
        beyond = int(self._next_is_close(basis)) if self._history else _SPARE
        places = select(ritz.values, self._which, self.k + beyond)
        guards = places[~torch.isin(places, select(ritz.values, self._which, self.k))]
        blocks = []
        for coordinates in (result.coordinates, ritz.coordinates[:, guards]):
            rows = basis.combine(coordinates)
            blocks.append(rows if self.metric is None else self.metric.inverse_root(rows.T).T.contiguous())
        self._history = [blocks[0], *self._history[: _HISTORY - 1]]
        self._guards = [blocks[1], *self._guards[: _GUARD_HISTORY - 1]]

    def state(self) -> dict[str, Tensor]:
        """The state from which a resumed run continues bit for bit: the history and the number of pairs."""
        counts = {"k": torch.tensor(self.k, device="cpu"), "updates": torch.tensor(self._updates, device="cpu")}
        counts["gaps"] = torch.tensor(self._gaps, dtype=torch.float64, device="cpu")
        wanted = {f"history.{i}": rows.clone() for i, rows in enumerate(self._history)}
        return counts | wanted | {f"guards.{i}": rows.clone() for i, rows in enumerate(self._guards)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a result of ``state()``."""
        if not isinstance(state, Mapping):
            raise InputError(f"a tracker state that is {type_of(state)}", expected="a result of state()")
        try:
            self.k, self._updates = int(state["k"]), int(state["updates"])
            self._gaps = state["gaps"].tolist()
        except KeyError as error:
            raise InputError(f"a tracker state without {error}", expected="a result of state()") from error
        kinds = {kind: sum(name.startswith(kind) for name in state) for kind in ("history.", "guards.")}
        self._history = [state[f"history.{i}"].clone() for i in range(kinds["history."])]
        self._guards = [state[f"guards.{i}"].clone() for i in range(kinds["guards."])]


def _check_threshold(threshold: float | None, which: Which) -> None:
    if threshold is not None and which != "largest":
        raise InputError(f"a threshold for which='{which}'", expected="which='largest'")
