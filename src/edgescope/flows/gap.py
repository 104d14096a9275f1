"""How far below 2/lr the sharpness of SGD settles, predicted from the noise of the gradient along the top direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.flows.step_map import checked_weights
from edgescope.linalg import top_eigenpairs
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.objective.samples import sample_losses
from edgescope.objective.third import curvature_gradient, difference_step
from edgescope.options import checked, instance_of, integer, real, type_of
from edgescope.statistics.means import autocorrelation_time


@in_notebooks
@dataclass(frozen=True)
class GapTerms:
    """The gap 2/lr - S that the noise of mini-batches leaves, by formula, and the terms of the formula.

    ``predicted`` is lr ``beta`` ``noise`` / (4 ``alpha``), NaN where alpha is not positive, since then nothing drives
    the sharpness to the threshold. With u the top eigenvector, S its eigenvalue and ∇S⊥ the gradient of S without its
    component along u, ``alpha`` = -<∇L, ∇S⊥> is the rate of progressive sharpening, ``beta`` = ||∇S⊥||² that of
    self-stabilization, and ``noise`` the variance over mini-batches of u'g_B. ``curvature_noise`` is lr/2 times the
    variance of u'H_B u, a term of the next order which is not in ``predicted``: where it is not small beside it, the
    formula is not to be trusted. ``measured`` is 2/lr - S.

    Of several points all are means over the points (of ``predicted`` the formula in the means). ``errors`` has the
    error of each by its name: over points the standard error, their autocorrelation accounted for, and of a single
    point the estimated numerical error; the noise over all samples has none.
    """

    predicted: float
    alpha: float
    beta: float
    noise: float
    curvature_noise: float
    measured: float
    errors: dict[str, float]
    points: int
    cost: Cost
    mode: str | None = None


@checked(objective=instance_of(Objective), lr=real(above=0), batch_size=integer(1), tol=real(above=0, below=1))
@in_plain_arithmetic
def sharpness_gap(
    objective: Objective,
    lr: float,
    batch_size: int,
    weights: Float[Tensor, "*points P"] | None = None,
    *,
    tol: float = 1e-4,
    seed: int = 0,
) -> GapTerms:
    """By how much SGD settles below 2/lr, since noise along the top direction stabilizes as oscillation does.

    SGD x' = -(1 + lr y) x + lr ξ, y = S - 2/lr < 0, has -2 lr y E x² = lr² σ_u² to first order in y, and the sharpness
    is at rest where E x² = 2 α/β, so that -y = lr β σ_u² / (4 α).

    Args:
        objective: the loss on all training data, a mean over samples.
        lr: the learning rate of SGD without momentum.
        batch_size: the size of its mini-batches, drawn without replacement and anew for every step. In epochs of few
            batches the noise of successive steps is correlated, and the gap of half batches was seen to change its
            sign. All samples: no noise, no gap.
        weights: one point (P,), or several (n, P) in the order of time: means of some 25 iterates each, since single
            iterates have the oscillation in their gradient. By default the model's parameters.
        tol: the residual of the eigenvector, relative to its value.
        seed: of the eigen-solver.

    Expect the formula to be within a factor of two, less the gap that is measured at the full batch, while mini-batches
    are large, and several times too small for small ones, where curvature noise and noise in the other directions
    count. Cost, a point: 3 gradients (in float32 one, and 2 products), 3 losses sample by sample, and the products of
    the eigenvector. Raises :class:`InputError` for a batch size beyond the number of samples and weights that do not
    fit, and :class:`NotKnownError` as :func:`~edgescope.objective.samples.sample_losses` does. Source: arXiv 2604.21016
    (its abstract; the derivation is this library's).
    """
    samples = objective.samples
    if batch_size > samples:
        raise InputError(f"batch_size={batch_size}", expected=f"at most {samples}, the number of samples")
    if samples < 2:
        raise InputError("the noise of a single sample", expected="at least 2 samples")
    points = _points(objective, weights)
    spent = objective.spent
    start: Tensor | None = None
    rows: list[_Terms] = []
    for point in points:
        pairs = top_eigenpairs(objective.operator(point), k=1, tol=tol, start=start, seed=seed)
        start = pairs.vectors
        rows.append(_at(objective, point, float(pairs.values[0]), pairs.vectors[:, 0]))
    share = (samples - batch_size) / (samples * batch_size)
    columns = {
        "alpha": np.array([row.alpha for row in rows]),
        "beta": np.array([row.beta for row in rows]),
        "noise": share * np.array([row.noise for row in rows]),
        "curvature_noise": lr / 2 * share * np.array([row.curvature_noise for row in rows]),
        "measured": np.array([2 / lr - row.sharpness for row in rows]),
    }
    means = {name: float(values.mean()) for name, values in columns.items()}
    errors = {name: _standard_error(values) for name, values in columns.items()}
    if len(rows) == 1:
        row = rows[0]
        errors = {"alpha": row.alpha_error, "beta": row.beta_error, "noise": 0.0, "curvature_noise": 0.0}
        errors["measured"] = row.sharpness * tol**2
    predicted, error = math.nan, math.nan
    if means["alpha"] > 0:
        predicted = lr * means["beta"] * means["noise"] / (4 * means["alpha"])
        error = _error_of_formula(predicted, columns, means, errors)
    return GapTerms(
        predicted,
        **means,
        errors={"predicted": error} | errors,
        points=len(rows),
        cost=objective.spent - spent,
        mode=objective.mode,
    )


@dataclass(frozen=True)
class _Terms:
    """What is measured at one point; the noises are variances over single samples."""

    sharpness: float
    alpha: float
    beta: float
    noise: float
    curvature_noise: float
    alpha_error: float
    beta_error: float


def _at(objective: Objective, w: Float[Tensor, " P"], sharpness: float, u: Float[Tensor, " P"]) -> _Terms:
    u = u.to(w) / torch.linalg.vector_norm(u.to(w))
    step = difference_step(w, "gradients")
    gradient = objective.gradient(w)
    derivative = curvature_gradient(objective, u[:, None], w)
    slope, away = gradient.double(), derivative.vectors[:, 0].double()
    direction = u.double()
    away = away - direction * (direction @ away)
    alpha, beta = -float(slope @ away), float(away @ away)
    losses = [sample_losses(objective, place) for place in (w, w + step * u, w - step * u)]
    slopes = (losses[1] - losses[2]) / (2 * step)
    curvatures = (losses[1] + losses[2] - 2 * losses[0]) / step**2
    found = (alpha, beta, float(slopes.var()), float(curvatures.var()))
    if not all(map(math.isfinite, found)):
        raise EdgescopeError(
            "the gradient or the curvature along the top direction is not finite (NaN or infinity)",
            expected="weights of a run that has not diverged",
        )
    reach = derivative.error * float(derivative.vectors.double().norm())
    return _Terms(sharpness, *found, reach * float(slope.norm()), 2 * reach * math.sqrt(beta))


def _points(objective: Objective, weights: Tensor | None) -> list[Tensor]:
    if weights is None:
        return [objective.parameters()]
    if not isinstance(weights, Tensor) or weights.ndim not in (1, 2) or not len(weights):
        given = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else type_of(weights)
        raise InputError(
            f"weights of {given}", expected=f"a tensor of shape ({objective.size},) or (n, {objective.size})"
        )
    return [checked_weights(one, objective, "weights") for one in (weights if weights.ndim == 2 else weights[None])]


def _standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Of the mean of a series, its autocorrelation accounted for; 0 for one value."""
    n = len(values)
    if n < 2:
        return 0.0
    return float(values.std(ddof=1)) * math.sqrt(autocorrelation_time(values) / n)


def _error_of_formula(
    predicted: float, columns: dict[str, Float[np.ndarray, " n"]], means: dict[str, float], errors: dict[str, float]
) -> float:
    """By the delta method: over points from the changes of the three terms together, else from their errors."""
    if not predicted:
        return 0.0
    if len(columns["alpha"]) == 1:
        return predicted * math.hypot(*(errors[name] / means[name] for name in ("alpha", "beta", "noise")))
    relative = columns["beta"] / means["beta"] + columns["noise"] / means["noise"] - columns["alpha"] / means["alpha"]
    return abs(predicted) * _standard_error(relative)
