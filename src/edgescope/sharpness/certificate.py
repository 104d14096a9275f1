"""The upper bound: a quadratic form that bounds the unit ball, fitted to H, and the largest eigenvalue of H in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.geometry import Geometry
from edgescope.linalg import EigenvalueBound, Operator
from edgescope.sharpness.ascent import best_share, inner
from edgescope.sharpness.majorant import Majorant

_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3)  # of the mean added to the multipliers, where trying costs no products
_SHARE = 0.05  # and where it does: near the best for networks, and within 2% of it for random matrices
_MIXES, _ROUNDINGS = 32, 4  # combinations compared, and kept
_ESCAPE = 0.05  # of the budget, for a direction that the relaxation missed


@dataclass(frozen=True)
class Certificate:
    """max d'Hd <= ``upper`` over the unit ball, with a probability of at least ``confidence``.

    ``points`` is the relaxation's maximiser V and ``multipliers`` the form's: a later certificate starts from them.
    ``roundings`` are points of the unit sphere near V, best first, for a climb to start from.
    """

    upper: float
    confidence: float
    points: Float[Tensor, "P r"]
    multipliers: Float[Tensor, " n"]
    roundings: Float[Tensor, "P k"]


def certify(
    operator: Operator,
    geometry: Geometry,
    form: Majorant,
    points: Float[Tensor, "P r"],
    *,
    steps: int,
    lanczos: int,
    failure: float,
    seed: int,
    tol: float,
) -> Certificate:
    """Fit the form's multipliers by ``steps`` on the relaxation, then bound the eigenvalue by ``lanczos`` products.

    The relaxation replaces each number of d by a row of r numbers, under the constraints whose multipliers the form
    holds (for Linf: unit rows; Burer and Monteiro 2003). It is maximised by the steps of
    :func:`~edgescope.sharpness.ascent.climb`, r products each. At its maximum H <= M and the budget is <V, HV>; before
    it is reached, the eigenvalue makes up for the difference.
    """
    form, points, images = _relax(operator, form, points, steps, tol)
    roundings = _rounded(geometry, points, images, seed)
    best, confidence, escape = torch.inf, 1.0, points[:, :0]
    shares = _SHARES if operator.matrix is not None else (_SHARE,)
    for share in shares:
        regularized = form.regularized(share)
        bound = EigenvalueBound(
            operator, metric=regularized, max_steps=lanczos, failure_probability=failure / len(shares), seed=seed
        )
        bound.extend(lanczos)
        if regularized.budget * max(0.0, bound.upper) < best:
            best, confidence = regularized.budget * max(0.0, bound.upper), 1.0 if bound.confidence == 1 else 1 - failure
            escape = regularized.inverse_root(bound.vectors(1).to(points.dtype))
    return Certificate(best, confidence, _with_escape_direction(form, points, escape), form.multipliers(), roundings)


def _rounded(geometry: Geometry, points: Tensor, images: Tensor, seed: int) -> Float[Tensor, "P k"]:
    """The steepest directions at random combinations w of the images HV, ranked by a lower bound that needs no product.

    For a positive H and v = Vw, the direction d steepest at Hv has d'Hd >= <d, Hv>^2 / v'Hv, by Cauchy and Schwarz.
    """
    mixes = torch.randn(points.shape[1], _MIXES, generator=torch.Generator().manual_seed(seed), device="cpu").to(points)
    slopes = images @ mixes
    curvatures = inner(points @ mixes, slopes)
    promises = geometry.dual_norm(slopes).double() ** 2 / torch.where(curvatures > 0, curvatures, torch.inf)
    return geometry.steepest(slopes[:, promises.topk(_ROUNDINGS).indices])


def _with_escape_direction(
    form: Majorant, points: Float[Tensor, "P r"], escape: Float[Tensor, "P j"]
) -> Float[Tensor, "P r"]:
    """The points in principal axes, their smallest columns replaced by the eigenvectors along which H exceeds the form.

    With few numbers a row, the relaxation can stop at a saddle point; these eigenvectors lead away from it.
    """
    rank = points.shape[1]
    if not escape.shape[1] or rank < 2:
        return points
    rooted = form.root(points).double()
    turned = points @ torch.linalg.eigh(rooted.T @ rooted).eigenvectors.flip(1).to(points)
    turned[:, rank - escape.shape[1] :] = escape * (_ESCAPE * form.budget) ** 0.5
    gradients = form.power(turned, 1.0)
    return form.fitted(gradients).power(gradients, -1.0)


def _relax(
    operator: Operator, form: Majorant, points: Tensor, steps: int, tol: float
) -> tuple[Majorant, Tensor, Tensor]:
    images = operator @ points
    form = form.fitted(images)
    value = (points.double() * images.double()).sum()
    for _ in range(steps):
        target = form.power(images, -1.0)
        far = operator @ target
        cross, end = (target.double() * images.double()).sum(), (target.double() * far.double()).sum()
        share = best_share(value, cross, end).to(points)
        points, images = points.lerp(target, share), images.lerp(far, share)
        form = form.fitted(images)
        before, value = value, (points.double() * images.double()).sum()
        if value - before <= tol * value.abs():
            break
    return form, points, images
