"""Following a set of eigenpairs along a run, from their own history."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.basis import Basis
from edgescope.linalg.eigenpairs import Eigenpairs, as_eigenpairs, check_request, seed_rows, whitened
from edgescope.linalg.metric import Metric
from edgescope.linalg.operator import Operator, as_operator
from edgescope.linalg.search import Found, Search, Which, select

# Chosen on small networks (tanh, relu, gelu; half-MSE, cross-entropy; on the edge and off it), up to 200 steps,
# and on matrices with exact crossings, k=1 and 3. A fixed gap of 0.01 was 1.3e-3 off, seen gaps up to 0.03 were 5e-4
# off, up to 0.015 3e-4; without a guard, or with seeds taken one at a time, exact crossings are missed.
_HISTORY = 3  # updates remembered: at the edge the iterate has period two; a fourth spends more than it saves for k=1
_DROP = 0.02  # a direction of the history with a smaller part of its own costs a product and brings nothing
_CROWD = 0.005  # gap to the nearest value that is taken for granted, as a share of the value, at least
_CROWD_MOST = 0.015  # and at most, however large the gaps that were seen
_TRUST = 0.25  # of the smallest gap seen in the last updates
_GAPS = 10  # updates over which gaps are remembered; fewer say nothing
_CLOSE = 0.1  # a next value closer than this share of the last tracked one is followed roughly, as a guard
_GUARD_HISTORY = 2  # updates of which guards are remembered
_SPARE = 3  # vectors beyond k that the first update passes on, in place of the history that is missing
_AUDIT_EVERY = 25  # updates between two looks for a missed value, 4 products each
_NEAR, _FAR = 0.9, 0.8  # of the threshold: one more pair is tracked above the first, one fewer below the second


class EigenTracker:
    """Follows the ``k`` largest (or smallest, or both) eigenpairs of ``thing`` while it changes.

    ``update`` is a Rayleigh-Ritz step on the vectors of the last three updates, expanded by residuals only while the
    estimated error of a value, residual^2 / (gap |value|), exceeds ``tol`` |value|; ``converged`` and ``error`` of
    its result refer to that. The gap is 0.005; once ten updates have told how much values gain on their residuals, it
    is a quarter of the smallest gap of the last ten, within 0.005 and 0.015: an estimate, no bound. The next value,
    where it is within a tenth, is followed roughly, so that it can be seen to cross. The first update is cold, and
    audited for missed values like :func:`top_eigenpairs`; so is every 25th. At the edge of stability of small networks
    some 4 to 7 products an update were needed for k=1.

    Where there is a ``threshold`` and the lowest tracked value (of the largest) reaches 0.9 of it, one more pair is
    tracked, up to ``most`` (default k + 8); pairs are given up one by one when the lowest but one is below 0.8 of it.
    An update spends at most ``max_products`` (default 100 + 20 k); what did not converge by then says so.

    ``thing`` is asked for its operator anew at each update: an Objective follows its live model. Memory: the basis of
    max(6 k + 24, 60) vectors is reserved once, but only what is used is touched; the history is 3 k + 2 vectors.
    """

    def __init__(
        self,
        thing: Any,
        k: int = 1,
        *,
        tol: float = 1e-3,
        which: Which = "largest",
        metric: Metric | None = None,
        threshold: float | None = None,
        most: int | None = None,
        max_products: int | None = None,
        seed: int = 0,
    ) -> None:
        check_request(k, which, tol)
        if threshold is not None and which != "largest":
            raise InputError(f"a threshold for which='{which}'", expected="which='largest'")
        if most is not None and most < k:
            raise InputError(f"most={most} pairs", expected=f"at least k={k}")
        if max_products is not None and max_products < 2 * k:
            raise InputError(f"max_products={max_products} for k={k}", expected=f"at least {2 * k}")
        self.thing = thing
        self.metric = metric
        self.threshold = threshold
        self.k = k
        self._least, self._most = k, k + 8 if most is None else most
        self._tol, self._which, self._max_products, self._seed = tol, which, max_products, seed
        self._history: list[Float[Tensor, "j P"]] = []  # newest first
        self._guards: list[Float[Tensor, "j P"]] = []
        self._gaps: list[float] = []  # seen in the last updates, newest last
        self._updates = 0
        self._basis: Basis | None = None

    def update(self, thing: Any = None, metric: Metric | None = None, threshold: float | None = None) -> Eigenpairs:
        """The eigenpairs now. A ``thing``, ``metric`` or ``threshold`` given here holds from now on.

        Raises :class:`InputError` when the operator's size is not that of the updates before.
        """
        began = time.perf_counter()
        self.thing = self.thing if thing is None else thing
        self.metric = self.metric if metric is None else metric
        self.threshold = self.threshold if threshold is None else threshold
        operator = whitened(as_operator(self.thing), self.metric)
        wanted = check_request(self.k, self._which, self._tol, operator.size)
        budget = 100 + 20 * wanted if self._max_products is None else self._max_products
        seeds = self._seeds(operator, budget)
        capacity = max(6 * wanted + 24, 60)
        if self._basis is None or not self._basis.fits(operator, capacity, 1):
            self._basis = Basis(operator, capacity)
        self._basis.clear(operator)
        search = Search(
            self._basis,
            self._which,
            self.k,
            tolerance=self._tol,
            generator=torch.Generator().manual_seed(self._seed + self._updates),
            crowd=self._crowd(),
            budget=budget,
        )
        search.sow(seeds, _DROP)
        audit = self._updates % _AUDIT_EVERY == 0
        search.guards = int((audit and seeds is not None and wanted < operator.size) or self._crowded(self._basis))
        found = search.run(audit=audit)
        near = math.inf if self.threshold is None else _NEAR * self.threshold
        while float(found.values[-1]) >= near and self.k < min(self._most, operator.size):
            self.k += 1
            search.count = self.k
            found = search.run(audit=False)
        pairs = as_eigenpairs(found, self._basis, self.metric, time.perf_counter() - began)
        self._remember(self._basis, found)
        self._gaps = [*self._gaps, search.gap][-_GAPS:] if math.isfinite(search.gap) else self._gaps
        self._updates += 1
        if self.threshold is not None and self.k > self._least and float(pairs.values[-2]) < _FAR * self.threshold:
            self.k -= 1
        return pairs

    def _crowd(self) -> float:
        """The gap, as a share of the value, that the error estimate takes for granted."""
        if len(self._gaps) < _GAPS:
            return _CROWD
        return min(max(_TRUST * min(self._gaps), _CROWD), _CROWD_MOST)

    def _seeds(self, operator: Operator, budget: int) -> Float[Tensor, "j P"] | None:
        if not self._history:
            return None
        length = self._history[0].shape[1]
        if length != operator.size:
            raise InputError(
                f"an operator of size {operator.size} for a tracker whose history has vectors of length {length}",
                hint="a new tracker",
            )
        return seed_rows(torch.cat(self._history + self._guards).T, operator, self.metric)[:budget]

    def _crowded(self, basis: Basis) -> bool:
        """Whether the value next to the tracked ones lies close, as far as the basis knows it."""
        values, k = basis.ritz().values, self.k
        ends = {"largest": [values], "smallest": [values.flip(0)], "both": [values, values.flip(0)]}[self._which]
        if values.shape[0] <= k * len(ends):
            return False
        return any(float((end[k - 1] - end[k]).abs()) <= _CLOSE * float(end[k - 1].abs()) for end in ends)

    def _remember(self, basis: Basis, found: Found) -> None:
        ritz = basis.ritz()
        beyond = int(self._crowded(basis)) if self._history else _SPARE
        places = select(ritz.values, self._which, self.k + beyond)
        guards = places[~torch.isin(places, select(ritz.values, self._which, self.k))]
        blocks = []
        for coordinates in (found.coordinates, ritz.coordinates[:, guards]):
            rows = basis.combine(coordinates)
            blocks.append(rows if self.metric is None else self.metric.inverse_root(rows.T).T.contiguous())
        self._history = [blocks[0], *self._history[: _HISTORY - 1]]
        self._guards = [blocks[1], *self._guards[: _GUARD_HISTORY - 1]]

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs to continue bit for bit: the history and the number of pairs."""
        counts = {"k": torch.tensor(self.k), "updates": torch.tensor(self._updates)}
        counts["gaps"] = torch.tensor(self._gaps, dtype=torch.float64)
        wanted = {f"history.{i}": rows.clone() for i, rows in enumerate(self._history)}
        return counts | wanted | {f"guards.{i}": rows.clone() for i, rows in enumerate(self._guards)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state that ``state()`` gave."""
        try:
            self.k, self._updates = int(state["k"]), int(state["updates"])
            self._gaps = state["gaps"].tolist()
        except KeyError as error:
            raise InputError(f"a tracker state without {error}", expected="what state() gave") from error
        kinds = {kind: sum(name.startswith(kind) for name in state) for kind in ("history.", "guards.")}
        self._history = [state[f"history.{i}"].clone() for i in range(kinds["history."])]
        self._guards = [state[f"guards.{i}"].clone() for i in range(kinds["guards."])]
