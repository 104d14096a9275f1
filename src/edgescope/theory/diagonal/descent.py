"""Gradient descent on a diagonal network, compiled, for a grid of learning rates in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from edgescope.extras import compiled
from edgescope.theory.arguments import Array

STATUSES = np.array(["converged", "diverged", "unfinished"])
_DIVERGED = 1e100  # a loss from which no run recovers, with all numbers still finite


@dataclass(frozen=True)
class Descent:
    """The ends of gradient descent runs: numbers for one learning rate, arrays of shape S for an array of shape S.

    ``beta`` (*S, d) is w*w at the end, and ``steps`` the number of updates. ``status`` is ``"converged"`` (loss below
    tol), ``"diverged"`` (loss above 1e100: beta is the point before, loss and sharpness are inf) or ``"unfinished"``
    (max_steps taken, for example in a cycle of period two). ``sharpness`` is max |eigenvalue| of the Hessian at beta.
    """

    lr: Any
    beta: Float[Array, "*S d"]
    steps: Any
    status: Any
    loss: Any
    sharpness: Any

    @property
    def l1_norm(self) -> Any:
        """||w||_1. It is not monotone between the norm and sharpness minimisers; ``squared_l2_norm`` is."""
        return np.sqrt(self.beta).sum(-1)

    @property
    def squared_l2_norm(self) -> Any:
        """||w||_2^2 = ||beta||_1, which gradient flow from small weights minimises among interpolators."""
        return self.beta.sum(-1)


@compiled(cache=True, nogil=True)
def descend(
    X: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
    tol: float,
    max_steps: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """beta, steps, index into ``STATUSES`` and loss at the end, for every learning rate, from the weights ``start``."""
    n, d = X.shape
    betas = np.empty((len(rates), d))
    steps = np.zeros(len(rates), dtype=np.int64)
    statuses = np.zeros(len(rates), dtype=np.int64)
    losses = np.zeros(len(rates))
    residuals = np.empty(n)
    for k in range(len(rates)):
        w = start.copy()
        for step in range(max_steps + 1):
            loss = 0.0
            for j in range(n):
                residual = -y[j]
                for i in range(d):
                    residual += X[j, i] * w[i] * w[i]
                residuals[j] = residual
                loss += residual * residual
            loss /= 2 * n
            steps[k], losses[k] = step, loss
            if loss < tol:
                statuses[k] = 0
                break
            if not loss < _DIVERGED:
                statuses[k], losses[k] = 1, np.inf
                break
            statuses[k] = 2
            if step < max_steps:
                for i in range(d):
                    slope = 0.0
                    for j in range(n):
                        slope += X[j, i] * residuals[j]
                    betas[k, i] = w[i] * w[i]
                    w[i] -= rates[k] * (2 / n) * slope * w[i]
        if statuses[k] != 1:
            betas[k] = w * w
    return betas, steps, statuses, losses
