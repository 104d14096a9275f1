"""Eigenpairs at and next to the threshold along a flow, each refined from the last ones in a few products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.eigenpairs import top_eigenpairs
from edgescope.linalg.metric import Metric
from edgescope.linalg.operator import Operator

RESIDUAL = 1e-3
"""Of critical pairs, relative to their values: the norm of H u - value K u in coordinates where K is the identity."""

_COARSE = 0.03  # the same of the pair below them, which only tells when it becomes critical
_NEAR = 0.95  # of the lowest critical value: pairs above it are as exact as critical ones
_AUDIT_EVERY = 25  # updates after which a search looks for pairs that were missed
_EXPANSIONS = 6  # of the basis by residuals, after which a search takes over
_DROP = 1e-6  # what is left of a residual that lies in the basis


@dataclass(frozen=True)
class CriticalPairs:
    """The ``values`` in descending order, and ``vectors`` (P, j) that are orthonormal in the metric."""

    values: Float[Tensor, " j"]
    vectors: Float[Tensor, "P j"]


class CriticalTracker:
    """Tracks all eigenpairs of an operator, in a metric, whose values are above ``lowest``, and the next one.

    An update is a Rayleigh-Ritz step on the vectors of the last one, continued along their change since the one before,
    and expanded by residuals until those of all pairs are small: a product for each pair, and mostly a few more. The
    first update and every 25th are a search of :func:`top_eigenpairs`, which looks for missed pairs. ``most`` is the
    largest number of pairs.
    """

    def __init__(self, lowest: float, most: int, seed: int = 0) -> None:
        self.lowest, self.most = lowest, most
        self._seed = seed
        self._updates = 0
        self._vectors: list[Float[Tensor, "P j"]] = []  # whitened, newest first

    def update(self, operator: Operator, metric: Metric) -> CriticalPairs:
        """The pairs of ``operator`` now."""
        found = self._refined(operator, metric) if self._updates % _AUDIT_EVERY else None
        if found is None:
            found = self._searched(operator, metric)
        self._updates += 1
        values, vectors = found
        kept = min(int((values > self.lowest).sum()) + 1, self.most, values.shape[0])
        values, vectors = values[:kept], vectors[:, :kept]
        self._vectors = [vectors, *self._vectors[:1]]
        return CriticalPairs(values, metric.inverse_root(vectors))

    def state(self) -> dict[str, Tensor]:
        """The state from which a resumed flow continues to the bit."""
        kept = {f"{i}": vectors.clone() for i, vectors in enumerate(self._vectors)}
        return {"updates": torch.tensor(self._updates, device="cpu")} | kept

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a result of ``state()``."""
        self._updates = int(state["updates"])
        self._vectors = [state[f"{i}"].clone() for i in range(len(state) - 1)]

    def _searched(self, operator: Operator, metric: Metric) -> tuple[Tensor, Tensor]:
        """By a search with an audit, of one more pair as long as the last one is critical."""
        start = metric.inverse_root(self._vectors[0]) if self._vectors else None
        k = min(self.most, max(1, 0 if start is None else start.shape[1]))
        while True:
            pairs = top_eigenpairs(
                operator, k, tol=RESIDUAL, start=start, metric=metric, seed=self._seed + self._updates
            )
            if float(pairs.values[-1]) <= self.lowest or k >= min(self.most, operator.size):
                return pairs.values.to(pairs.vectors), metric.root(pairs.vectors)
            k, start = k + 1, pairs.vectors

    def _refined(self, operator: Operator, metric: Metric) -> tuple[Tensor, Tensor] | None:
        """From the last vectors; None where they do not lead there, or where there is one more critical pair."""

        def product(block: Tensor) -> Tensor:
            return metric.inverse_root(operator @ metric.inverse_root(block))

        basis = torch.linalg.qr(self._continued()).Q
        wanted = basis.shape[1]
        images = product(basis)
        for expansion in range(_EXPANSIONS + 1):
            projected = basis.T @ images
            values, coordinates = torch.linalg.eigh((projected + projected.T) / 2)
            values, coordinates = values.flip(0)[:wanted], coordinates.flip(1)[:, :wanted]
            vectors = basis @ coordinates
            residuals = images @ coordinates - vectors * values
            sizes = torch.linalg.vector_norm(residuals, dim=0)
            near = values > _NEAR * self.lowest
            rough = torch.where(near, RESIDUAL, _COARSE) * values.abs() < sizes
            if not bool(rough.any()):
                full = bool(values[-1] > self.lowest) and wanted < min(self.most, operator.size)
                return None if full else (values, vectors)
            more = residuals[:, rough]
            for _ in range(2):
                more = more - basis @ (basis.T @ more)
                more = more / torch.linalg.vector_norm(more, dim=0).clamp(min=torch.finfo(more.dtype).tiny)
            q, r = torch.linalg.qr(more)
            more = q[:, r.diagonal().abs() > _DROP]
            if expansion == _EXPANSIONS or not more.shape[1]:
                return None
            basis, images = torch.cat([basis, more], dim=1), torch.cat([images, product(more)], dim=1)
        return None

    def _continued(self) -> Float[Tensor, "P j"]:
        """The last vectors, continued along their change since the ones before, where these span as many directions."""
        last = self._vectors[0]
        if len(self._vectors) < 2 or self._vectors[1].shape != last.shape:
            return last
        before = self._vectors[1]
        u, _, v = torch.linalg.svd(before.T @ last)
        return 2 * last - before @ (u @ v)
