"""Regression with a diagonal linear network: interpolators of least norm, of least sharpness, and between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.theory.arguments import (
    Array,
    Numbers,
    as_numbers,
    as_positive,
    plain,
    positive_number,
    require,
    whole_number,
)
from edgescope.theory.diagonal import curvature, descent, flow
from edgescope.theory.diagonal.descent import Descent
from edgescope.theory.diagonal.flow import Flow
from edgescope.theory.diagonal.interpolators import least_sum, least_top_eigenvalue


@dataclass(frozen=True)
class Optimum:
    """The interpolator of least risk on the segment from the norm minimiser (share 0) to the sharpness minimiser (1).

    ``lr`` = 2 / sharpness(beta) is the learning rate at whose edge of stability it lies; gradient descent finds it near
    that rate. ``interior`` is False where one end of the segment has the least risk: share is 0 or 1.
    """

    share: float
    beta: Float[Array, " d"]
    risk: float
    lr: float
    interior: bool


class Problem:
    """The loss L(w) = 1/(2n) sum_j (<w*w, x_j> - y_j)^2, in the effective predictor ``beta`` = w*w >= 0.

    ``x`` is one sample (d,) with a number ``y``, or n samples (n, d) with y (n,); any signs. Where L = 0 the norm is
    ||w||_2^2 = sum beta and the sharpness S = 4/n times the top eigenvalue of X diag(beta) X^T; for one sample
    S = 4 sum_i x_i^2 beta_i and S ||w||_2^2 >= 4 y^2, with equality iff x is constant where beta > 0. The interpolator
    of least norm then has all of its mass on the largest x_i, and that of least sharpness on the smallest (of those
    with the sign of y): opposite ends of the set of interpolators.

    Methods raise :class:`InputError` where no beta >= 0 interpolates. Sources: Matveev et al. 2025, arXiv 2505.21423
    (one sample; the formulas are derived independently); gradient flow from its invariants, as in Woodworth et al.
    2020. The norm that gradient flow minimises in this network is ||w||_2, not the ||w||_1 that the paper plots.
    """

    def __init__(self, x: Numbers, y: Numbers) -> None:
        self.x, self.y = as_numbers(x, "x"), as_numbers(y, "y")
        X, targets = np.atleast_2d(self.x), np.atleast_1d(self.y)
        if self.x.ndim not in (1, 2) or targets.ndim != 1 or len(X) != len(targets) or X.size == 0:
            raise InputError(
                f"x of shape {self.x.shape} with y of shape {self.y.shape}",
                expected="x (d,) with one y, or x (n, d) with y (n,)",
            )
        self._X, self._y = X, targets

    # The two minimisers and their learning rates.

    def norm_minimizer(self) -> Float[Array, " d"]:
        """The interpolator with least ||w||_2^2 = sum beta: y / x_max on the largest input of one sample.

        For several samples, by a linear program (HiGHS). It is the limit of gradient flow from small initial weights.
        Equal largest inputs of one sample share the mass, as they do in the flow.
        """
        return self._least_norm.copy()

    def sharpness_minimizer(self) -> Float[Array, " d"]:
        """The interpolator with least sharpness: y / x_min on the smallest input of one sample.

        For several samples, by a semidefinite program, solved to 1e-12 of its optimum by a barrier method (about a
        hundred steps of d^3 operations). Inputs that are zero on all samples get 0.
        """
        return self._least_sharp.copy()

    def sharpness(self, beta: Numbers) -> Any:
        """max |eigenvalue| of the Hessian of the loss at w = sqrt(beta), for beta (d,) or (*S, d).

        Where beta does not interpolate, the residual adds 2/n diag(X^T (X beta - y)) to the Hessian.
        """
        beta = self._as_predictors(beta, "beta", least=0.0)
        values = [curvature.sharpness(self._X, self._y, point) for point in beta.reshape(-1, beta.shape[-1])]
        return plain(np.array(values, dtype=np.float64).reshape(beta.shape[:-1]))

    def critical_lr(self) -> float:
        """2 / sharpness of the norm minimiser; 1 / (2 y x_max) for one sample.

        Above it gradient descent cannot converge to the end of gradient flow from small initial weights. For initial
        weights of finite size use ``gradient_flow(scale).critical_lr``, 2 over the largest sharpness along the flow.
        With several samples that may be lower even for small weights, since the flow can be sharper on its way than at
        its end. inf where beta = 0 interpolates.
        """
        return self._edge(self._least_norm)

    def largest_stable_lr(self) -> float:
        """2 / sharpness of the sharpness minimiser; 1 / (2 y x_min) for one sample.

        Above it gradient descent is unstable at every interpolator.
        """
        return self._edge(self._least_sharp)

    # Test error.

    def risk(self, beta: Numbers, beta_star: Numbers, covariance: Numbers | None = None) -> Any:
        """The test error E <x, beta - beta_star>^2, without a factor 1/2 or label noise, for beta (d,) or (*S, d).

        ``covariance`` is the second moment E x x^T of the test inputs: a number (isotropic), d numbers (diagonal) or a
        (d, d) matrix; None is 1.
        """
        apart = self._as_predictors(beta, "beta") - self._as_predictors(beta_star, "beta_star")
        return plain(np.einsum("...i,ij,...j->...", apart, self._second_moment(covariance), apart))

    def interpolation(self, share: Numbers) -> Float[Array, "*S d"]:
        """(1 - share) * norm minimiser + share * sharpness minimiser, for share in [0, 1]; all are interpolators."""
        share = as_numbers(share, "share")
        require(share, (share >= 0) & (share <= 1), "share", "numbers from 0 to 1")[..., None]
        return (1 - share[..., None]) * self._least_norm + share[..., None] * self._least_sharp

    def optimum(self, beta_star: Numbers, covariance: Numbers | None = None) -> Optimum:
        """The point of least risk between the norm minimiser and the sharpness minimiser, and its learning rate.

        With one sample of two different inputs, and an interpolator beta_star, the optimum is interior iff both entries
        of beta_star are positive; it is then beta_star itself, with lr = 1 / (2 sum x_i^2 beta_star_i). Controls at the
        two ends are beta_star = ``norm_minimizer()`` (share 0) and beta_star = ``sharpness_minimizer()`` (share 1). In
        more dimensions, interpolators off the segment may have less risk.
        """
        target = self._as_predictors(beta_star, "beta_star")
        moment = self._second_moment(covariance)
        along = self._least_sharp - self._least_norm
        curvature = float(along @ moment @ along)
        pull = float(along @ moment @ (target - self._least_norm))
        share = min(max(pull / curvature, 0.0), 1.0) if curvature > 0 else 0.0
        beta = self.interpolation(share)
        return Optimum(share, beta, self.risk(beta, target, moment), self._edge(beta), 0 < share < 1)

    # Training.

    def descend(self, lr: Numbers, scale: Numbers = 1e-3, tol: float = 1e-12, max_steps: int = 2_000_000) -> Descent:
        """Gradient descent from weights ``scale`` (one for all, or d of them) until the loss is below ``tol``.

        ``lr`` is a number or an array of any shape, each entry a run of its own, in compiled code with 2 n d
        multiply-adds a step. Runs that diverge or do not finish are results, not errors. Close to the largest stable
        learning rate the end point depends on the transient: 0.05% in lr may change its sharpness by several percent.
        """
        rates = as_positive(lr, "lr")
        start, tol = self._start(scale), positive_number(tol, "tol")
        steps_allowed = whole_number(max_steps, "max_steps", 0)
        beta, steps, status, loss = descent.descend(self._X, self._y, rates.ravel(), start, tol, steps_allowed)
        sharp = [
            np.inf if descent.STATUSES[s] == "diverged" else curvature.sharpness(self._X, self._y, b)
            for s, b in zip(status, beta, strict=True)
        ]

        def shaped(values: Any) -> Any:
            return plain(np.asarray(values).reshape(rates.shape))

        return Descent(
            lr=plain(rates),
            beta=beta.reshape(*rates.shape, beta.shape[-1]),
            steps=shaped(steps),
            status=shaped(descent.STATUSES[status]),
            loss=shaped(loss),
            sharpness=shaped(np.array(sharp, dtype=np.float64)),
        )

    def gradient_flow(self, scale: Numbers = 1e-3, tol: float = 1e-12) -> Flow:
        """Gradient flow from weights ``scale`` until the loss is ``tol``, with the largest sharpness along the way.

        Integrated in n unknowns to a relative accuracy of about 1e-9, since beta = scale^2 exp(4 X^T nu) at all times.
        """
        _ = self._least_norm  # raises where no interpolator exists, for which the flow would not end
        return flow.gradient_flow(self._X, self._y, self._start(scale), positive_number(tol, "tol"))

    @cached_property
    def _least_norm(self) -> Float[Array, " d"]:
        return least_sum(self._X, self._y)

    @cached_property
    def _least_sharp(self) -> Float[Array, " d"]:
        return least_top_eigenvalue(self._X, self._y)

    def _edge(self, beta: Float[Array, " d"]) -> float:
        sharp = self.sharpness(beta)
        return 2 / sharp if sharp > 0 else np.inf

    def _as_predictors(self, beta: Numbers, name: str, least: float = -np.inf) -> Float[Array, "*S d"]:
        numbers = as_numbers(beta, name)
        d = self._X.shape[1]
        if numbers.ndim == 0 or numbers.shape[-1] != d:
            raise InputError(f"{name} has shape {numbers.shape}", expected=f"({d},), one entry for each input")
        return require(numbers, numbers >= least, name, "entries of zero or more, since beta = w*w")

    def _second_moment(self, covariance: Numbers | None) -> Float[Array, "d d"]:
        d = self._X.shape[1]
        given = as_numbers(1.0 if covariance is None else covariance, "covariance")
        if given.shape not in ((), (d,), (d, d)):
            raise InputError(f"covariance has shape {given.shape}", expected=f"a number, ({d},) or ({d}, {d})")
        matrix = given if given.ndim == 2 else np.diag(np.broadcast_to(given, d))
        size = np.abs(matrix).max()
        if not np.allclose(matrix, matrix.T, atol=1e-12 * size) or np.linalg.eigvalsh(matrix)[0] < -1e-12 * size:
            raise InputError("the covariance is not symmetric and positive semidefinite", expected="E x x^T")
        return matrix

    def _start(self, scale: Numbers) -> Float[Array, " d"]:
        start, d = as_positive(scale, "scale"), self._X.shape[1]
        if start.shape not in ((), (d,)):
            raise InputError(f"scale has shape {start.shape}", expected=f"one number or ({d},)")
        return np.array(np.broadcast_to(start, d))
