"""Nodes and weights of one quadrature of a spectrum, with the uncertainty of each node."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Nodes(NamedTuple):
    """A discrete measure: ``values`` with ``weights`` that sum to 1.

    ``spread`` is the distance within which the eigenvalues lie that a node represents, apart from rounding; 0 where the
    node is an eigenvalue. The weights of ``known`` nodes are exact, all others are sampled.
    """

    values: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    spread: Float[Tensor, " n"]
    known: Bool[Tensor, " n"]


def from_eigenvalues(values: Float[Tensor, " n"]) -> Nodes:
    """Exact eigenvalues, all with the same weight."""
    return Nodes(
        values,
        torch.full_like(values, 1 / len(values)),
        torch.zeros_like(values),
        torch.ones_like(values, dtype=torch.bool),
    )


def add_known(sampled: Nodes, known: Float[Tensor, " k"], size: int) -> Nodes:
    """A quadrature of an operator with ``size`` rows, from its ``known`` eigenvalues and a quadrature of the others."""
    exact = from_eigenvalues(known)
    parts = (
        sampled._replace(weights=(1 - len(known) / size) * sampled.weights),
        exact._replace(weights=exact.weights * len(known) / size),
    )
    return Nodes(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def variance_over_probes(pooled: Nodes, values: Float[Tensor, "n x"], size: int, probes: int) -> Float[Tensor, " x"]:
    """The variance of the weighted mean of each column of ``values``, over the pooled nodes of all ``probes``.

    The mean of f over one Rademacher probe has a variance of at most 2 sum (f - mean)^2 / size^2, a sum over the
    eigenvalues, which is estimated from the nodes. Every node counts as at least one eigenvalue, since the weight of a
    single large eigenvalue is small by chance exactly where the mean misses it. Known nodes have no variance.
    """
    sampled = ~pooled.known & (pooled.weights > 0)
    weights, values = pooled.weights[sampled][:, None], values[sampled]
    counts = (weights * probes * size).clamp(min=1)
    middle = (weights * values).sum(0) / weights.sum()
    return 2 * (counts * (values - middle) ** 2).sum(0) / (probes * size) ** 2
