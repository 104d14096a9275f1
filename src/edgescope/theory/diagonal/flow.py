"""Gradient flow on a diagonal network: a differential equation in as many unknowns as there are samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.theory.arguments import Array
from edgescope.theory.diagonal.curvature import sharpness

_LONG = 1e9  # in units of the fastest time scale: a flow that takes longer is reported as unfinished


@dataclass(frozen=True)
class Flow:
    """The end of gradient flow: ``beta`` (d,), ``time``, ``loss`` and ``sharpness`` there.

    ``max_sharpness`` is the largest sharpness along the way. ``status`` is ``"converged"`` (loss below tol) or
    ``"unfinished"``.
    """

    beta: Float[Array, " d"]
    time: float
    loss: float
    status: Literal["converged", "unfinished"]
    sharpness: float
    max_sharpness: float

    @property
    def critical_lr(self) -> float:
        """2 / max_sharpness: below it gradient descent from the same weights is stable all along the flow."""
        return 2 / self.max_sharpness

    @property
    def l1_norm(self) -> float:
        """||w||_1."""
        return float(np.sqrt(self.beta).sum())

    @property
    def squared_l2_norm(self) -> float:
        """||w||_2^2 = ||beta||_1."""
        return float(self.beta.sum())


def gradient_flow(X: Float[Array, "n d"], y: Float[Array, " n"], start: Float[Array, " d"], tol: float) -> Flow:
    """w' = -grad L keeps beta = start^2 exp(4 X^T nu) with nu' = (y - X beta) / n: n equations, not d."""
    n = len(y)
    seed = 2 * np.log(start)

    def beta_at(nu: Float[Array, " n"]) -> Float[Array, " d"]:
        return np.exp(np.minimum(seed + 4 * nu @ X, 700))  # a solver's trial step may go far out

    def velocity(_: float, nu: Float[Array, " n"]) -> Float[Array, " n"]:
        return (y - X @ beta_at(nu)) / n

    def jacobian(_: float, nu: Float[Array, " n"]) -> Float[Array, "n n"]:
        return -4 / n * (X * beta_at(nu)) @ X.T

    def loss(nu: Float[Array, " n"]) -> float:
        return float(np.sum((X @ beta_at(nu) - y) ** 2)) / (2 * n)

    def fitted(_: float, nu: Float[Array, " n"]) -> float:
        return float(np.log(max(loss(nu), 1e-300) / tol))

    fitted.terminal = True  # type: ignore[attr-defined]
    unit = np.abs(X).max()
    rate = 4 * unit * np.abs(y).max() + sharpness(X, y, start**2)
    path = scipy.integrate.solve_ivp(
        velocity,
        (0, _LONG / rate),
        np.zeros(n),
        method="LSODA",
        jac=jacobian,
        events=fitted,
        dense_output=True,
        rtol=1e-12,
        atol=1e-13 / unit,
    )

    def sharpness_at(time: float) -> float:
        return sharpness(X, y, beta_at(path.sol(time)))

    times = path.t
    highest = [sharpness_at(time) for time in times]
    top = int(np.argmax(highest))
    around = times[max(top - 1, 0)], times[min(top + 1, len(times) - 1)]
    peak = highest[top]
    if around[0] < around[1]:
        refined = scipy.optimize.minimize_scalar(
            lambda t: -sharpness_at(t), bounds=around, method="bounded", options={"xatol": 1e-9 * around[1]}
        )
        peak = max(peak, -float(refined.fun))
    end = path.y[:, -1]
    return Flow(
        beta=beta_at(end),
        time=float(times[-1]),
        loss=loss(end),
        status="converged" if path.status == 1 or loss(end) < tol else "unfinished",
        sharpness=highest[-1],
        max_sharpness=peak,
    )
