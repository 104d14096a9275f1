"""The covariance of the oscillation: the smallest one that holds all curvatures at or below the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.flows.averaged import CRITICAL, AveragedRule, Slow
from edgescope.linalg.complementarity import complementarity, pairs_of, weights_of


@dataclass(frozen=True)
class CriticalCovariance:
    """``covariance`` X (k, k) in a ``basis`` U (P, k) with U^T K U = I: Sigma = U X U^T. ``force`` is half the gradient
    of <H, Sigma>, and ``square`` (P,) the mean square that it adds to the gradient, the diagonal of H Sigma H.
    """

    covariance: Float[Tensor, "k k"]
    basis: Float[Tensor, "P k"]
    force: Float[Tensor, " P"]
    square: Float[Tensor, " P"]


def no_covariance(like: Float[Tensor, " P"]) -> CriticalCovariance:
    """Below the threshold."""
    zeros = torch.zeros_like(like)
    return CriticalCovariance(like.new_zeros(0, 0), like.new_zeros(like.shape[0], 0), zeros, zeros)


def critical_covariance(
    rule: AveragedRule,
    slow: Slow,
    values: Float[Tensor, " k"],
    basis: Float[Tensor, "P k"],
    gradients: Float[Tensor, "P m"],
    velocity: Float[Tensor, " P"],
    square: Float[Tensor, " P"],
    dt: float,
    tol: float = 1e-9,
) -> CriticalCovariance:
    """The covariance on critical directions that keeps H <= 2K for a time ``dt``.

    In this time u_i^T (2K - H) u_j becomes Z = A + B[X], where A is what happens without oscillation, and B what a
    covariance X adds: by the force that it exerts on the weights, and through the slow state. X >= 0 and Z >= 0 with
    product zero determine X.

    Args:
        rule, slow: the optimizer and its slow state.
        values, basis: critical eigenvalues of K^-1 H and their vectors, orthonormal in K.
        gradients: those of u_i^T H u_j, i <= j row by row.
        velocity: P^-1 times the gradient that the weights descend along where nothing oscillates.
        square: the squared gradient, which moves the slow state where nothing oscillates.
        dt: the time step.
    """
    linear, response = curvature_rates(rule, slow, basis, gradients, velocity, square)
    a, b = torch.diag(CRITICAL - values.to(gradients)) + dt * linear, dt * response
    covariance = complementarity((a + a.T) / 2, (b + b.T) / 2, tol).X.to(gradients)
    rows, columns = pairs_of(values.shape[0])
    weights = weights_of(values.shape[0]).to(gradients)
    vector = covariance[rows, columns] * weights
    spread = ((basis @ covariance) * basis).sum(1)
    force = 0.5 * (gradients * weights) @ vector
    return CriticalCovariance(covariance, basis, force, (CRITICAL * rule.critical(slow)) ** 2 * spread)


def curvature_rates(
    rule: AveragedRule,
    slow: Slow,
    basis: Float[Tensor, "P k"],
    gradients: Float[Tensor, "P m"],
    velocity: Float[Tensor, " P"],
    square: Float[Tensor, " P"],
) -> tuple[Float[Tensor, "k k"], Float[Tensor, "m m"]]:
    """How fast u_i^T (2K - H) u_j changes: A' where nothing oscillates, and the map B' of a covariance X to its part.

    Both are per step of the optimizer, and B' acts on vectors as in :func:`complementarity`. Arguments as those of
    :func:`critical_covariance`.
    """
    k = basis.shape[1]
    rows, columns = pairs_of(k)
    weights = weights_of(k).to(gradients)
    scaled = gradients * weights
    inverse, critical = rule.inverse(slow), rule.critical(slow)
    linear = gradients.new_zeros(k, k)
    linear[rows, columns] = linear[columns, rows] = velocity @ gradients
    response = 0.5 * scaled.T @ (inverse[:, None] * scaled)
    if slow:
        products = basis[:, rows] * basis[:, columns] * weights
        still = rule.rate(slow, square)
        linear = linear + CRITICAL * basis.T @ (rule.change_of_critical(slow, still)[:, None] * basis)
        added = (CRITICAL * critical) ** 2

        def change(more: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
            """How K moves where the mean square has ``more``: a linear map."""
            moved = rule.rate(slow, square + more)
            return rule.change_of_critical(slow, {name: moved[name] - still[name] for name in moved})

        if rule.rule.by_entry:  # the map is diagonal
            response = response + CRITICAL * products.T @ (change(added)[:, None] * products)
        else:
            moves = torch.stack([change(added * product) for product in products.unbind(1)], dim=1)
            response = response + CRITICAL * products.T @ moves
    return linear, response
