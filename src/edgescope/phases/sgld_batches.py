"""Gradients of mini-batches for Langevin sampling, and a bound of what their noise adds to the estimate."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost, in_passes
from edgescope.objective import Objective, mini_batches
from edgescope.phases.sgld_edge import Localized

FOR_NOISE: Final = 16
"""Mini-batches from which the noise of their gradients is measured."""


class BatchGradients:
    """Losses and gradients of chains, each on a mini-batch of its own at each step.

    Losses are those of the mini-batch less its loss at the start plus the loss of all data there: of the same mean as
    the loss of all data, since mini-batch and place are independent, with much less noise. Costs are counted in passes
    over all data once :meth:`settle` is called.
    """

    def __init__(self, objective: Objective, size: int, seed: int, start: Float[Tensor, " P"], loss: float) -> None:
        self.objective, self.start, self.loss = objective, start.to(objective.dtype), loss
        self._share = size / objective.samples
        self._parts = mini_batches(objective, size, seed=seed)
        self._spent = Cost()
        drawn = torch.stack([self._next(self.start)[1].double() for _ in range(FOR_NOISE)])
        self.variance = float(drawn.var(0).sum())  # the trace of the covariance of a mini-batch's gradient

    def bias(self, target: Localized, step: float) -> float:
        """By how much the noise raises the estimate at most, on a quadratic: step (n β)² tr Cov / 8.

        A mode of curvature a gets the variance (1 + step (n β)² v/4)/a, with v the variance of the gradient along it,
        and counts with at most half of what that is in units of 1/a.
        """
        return step * target.scale**2 * self.variance / 8

    def __call__(self, W: Float[Tensor, "k P"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k P"]]:
        losses, gradients = zip(*(self._next(w) for w in W), strict=True)
        return torch.stack(losses), torch.stack(gradients)

    def settle(self) -> None:
        """Count what has been spent since the last call."""
        self.objective.meter.add(in_passes(self._spent, self._share))
        self._spent = Cost()

    def _next(self, w: Float[Tensor, " P"]) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
        part = next(self._parts)
        gradient = part.gradient(w)
        loss = part.loss(w) - part.loss(self.start) + self.loss
        self._spent += part.spent
        part.release()
        return loss, gradient
