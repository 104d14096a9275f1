"""The oscillation at given weights in equilibrium: the covariance that keeps critical curvatures as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.flows.averaged import CRITICAL, AveragedRule
from edgescope.flows.covariance import curvature_rates
from edgescope.linalg.complementarity import complementarity
from edgescope.objective.objective import Objective
from edgescope.objective.third import curvature_gradient


@dataclass(frozen=True)
class EquilibriumOscillation:
    """An oscillation of covariance ``basis`` @ ``covariance`` @ ``basis``^T, with ``basis`` (P, k) orthonormal in K.

    ``cost`` is what it adds to the average of the loss, tr(H Sigma)/2, with an estimated ``error``.
    """

    cost: float
    error: float
    covariance: Float[Tensor, "k k"]
    basis: Float[Tensor, "P k"]


def equilibrium_oscillation(
    objective: Objective,
    rule: AveragedRule,
    w: Float[Tensor, " P"],
    values: Float[Tensor, " k"],
    basis: Float[Tensor, "P k"],
) -> EquilibriumOscillation:
    """The oscillation around averaged weights ``w`` that holds the curvatures of ``basis`` where they are.

    A central flow keeps them at the threshold step by step. Here they are those of a run, which move about it, and the
    oscillation is that of the average: X >= 0 with A' + B'[X] >= 0 and product zero, where A' and B' are the rates of
    :func:`~edgescope.flows.covariance.curvature_rates`. For one direction of gradient descent the variance is
    2 alpha/beta, alpha = -<grad L, grad S> and beta = ||grad S||^2, both without their parts in critical directions,
    along which averaged weights do not drift (Damian et al. 2022, arXiv 2209.15594). Without momentum the gradient
    includes the second-order drift of :class:`~edgescope.flows.central.CentralFlow`.

    The oscillation of a run is rarely in equilibrium: its size and its curvatures cycle about it, with an angular
    frequency near sqrt(2 a), a the fastest rate of A'. For one direction whose alpha and beta are constant, the mean of
    its variance over a cycle is that of the equilibrium, whatever the amplitude.

    **Error.** A direction below the threshold either oscillates, in the lower half of its cycle, or does not and is
    still on its way to the threshold. The error is the decrease of ``cost`` where each direction that is d below the
    threshold first has to rise by d within the time 1/sqrt(2 a); a direction at the lower end of a usual band then
    contributes hardly anything. Twice the error of the third derivatives is added in quadrature. The error does not
    cover what the equation leaves out: higher derivatives, and changes of alpha and beta within a cycle. Both
    factors, sqrt(2 a) and 2, were chosen after runs of one network (docs/central.md has others).

    Args:
        objective, rule: the loss and its optimizer, with the slow state that it has now.
        w: averaged weights.
        values, basis: the eigenvalues of K^-1 H near the threshold 2, and their vectors, orthonormal in K.

    Cost: 2 + k(k+1) gradients (in float32 k(k+1) products beside 1 + 2k), and one product.
    """
    slow, shift = rule.slow, rule.shift
    inverse, critical = rule.inverse(slow), rule.critical(slow)
    gradient = objective.gradient(w)
    if shift is not None:
        gradient = gradient + shift * w
    velocity = inverse * gradient
    if not rule.momentum:
        velocity = velocity + 0.5 * inverse * (rule.rule.effective(objective.operator(w)) @ velocity)
    third = curvature_gradient(objective, basis, w)
    moving = third.vectors - critical[:, None] * (basis @ (basis.T @ third.vectors))
    rates, response = curvature_rates(rule, slow, basis, moving, velocity, gradient.square())
    linear, response = (rates + rates.T).double().cpu() / 2, (response + response.T).double().cpu() / 2
    fastest = float(torch.linalg.eigvalsh(linear).abs().max())
    below = torch.diag((CRITICAL - values.double().cpu()).clamp(min=0.0)) * math.sqrt(2 * fastest)

    def solved(a: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
        return complementarity(a, response).X

    def cost_of(x: Float[Tensor, "k k"]) -> float:
        if shift is None:
            return float(x.trace())
        spread = ((basis @ x.to(basis)) * basis).sum(1)
        return float(x.trace()) - 0.5 * float(shift @ spread)

    covariance = solved(linear)
    cost = cost_of(covariance)
    error = math.hypot(cost - cost_of(solved(linear + below)), 2 * third.error * cost)
    return EquilibriumOscillation(cost, error, covariance.to(basis), basis)
