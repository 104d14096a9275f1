"""Gradient descent on a diagonal network, step by step: compiled, a whole grid of learning rates in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from edgescope.theory.arguments import Array

STATUSES = np.array(["converged", "diverged", "unfinished"])
_BEYOND = 1e100  # a loss from which no run returns, with all figures still finite


@dataclass(frozen=True)
class Descent:
    """Where gradient descent ended. For one learning rate numbers; for an array of shape S arrays of shape S.

    ``beta`` (*S, d) is w*w at the end and ``steps`` the updates until then. ``status`` is ``"converged"`` (loss below
    tol), ``"diverged"`` (loss past 1e100: beta is the point before, loss and sharpness are inf) or ``"unfinished"``
    (max_steps taken, such as in a cycle of period two). ``sharpness`` is max |eigenvalue| of the Hessian at the end.
    """

    lr: Any
    beta: Float[Array, "*S d"]
    steps: Any
    status: Any
    loss: Any
    sharpness: Any

    @property
    def l1_norm(self) -> Any:
        """||w||_1. Between minimisers of norm and sharpness it is concave, not monotone: see ``squared_l2_norm``."""
        return np.sqrt(self.beta).sum(-1)

    @property
    def squared_l2_norm(self) -> Any:
        """||w||_2^2 = ||beta||_1, whose least value gradient flow from a small start finds."""
        return self.beta.sum(-1)


@numba.njit(cache=True, nogil=True)
def descend(
    X: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
    tol: float,
    max_steps: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """beta, steps, index into ``STATUSES`` and loss at the end, for every rate; start are the weights w (d,)."""
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
            if not loss < _BEYOND:
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
