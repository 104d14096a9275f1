"""The value from above: a form that bounds the unit ball, fitted to the operator, and the largest eigenvalue in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.ascent import best_share
from edgescope.geometry.majorant import Majorant
from edgescope.linalg import EigenvalueBound, Operator

_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3)  # of the mean added to the multipliers, where trying costs no products
_SHARE = 0.05  # and where it does: near the best for networks, and within 2% of it for random matrices


@dataclass(frozen=True)
class Certificate:
    """max d'Hd <= ``upper`` over the unit ball, with a chance of at least ``confidence``.

    ``points`` is the relaxation's maximiser V and ``multipliers`` the form's: a later certificate starts from them.
    ``relaxed`` is <V, HV>, which a bound of this family cannot undercut when the relaxation has converged.
    """

    upper: float
    confidence: float
    relaxed: float
    points: Float[Tensor, "P r"]
    multipliers: Float[Tensor, " n"]


def certify(
    operator: Operator,
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
    holds (for Linf: unit rows; Burer and Monteiro 2003), and climbs as :func:`~edgescope.geometry.ascent.climb` does, r
    products a step. At its maximum H <= M and the budget is <V, HV>; short of it the eigenvalue makes up for the rest.
    """
    form, points, images = _relax(operator, form, points, steps, tol)
    best, confidence = torch.inf, 1.0
    for share in _SHARES if operator.matrix is not None else (_SHARE,):
        eased = form.eased(share)
        bound = EigenvalueBound(operator, metric=eased, most=lanczos, failure=failure, seed=seed).extend(lanczos)
        if eased.budget * max(0.0, bound.upper) < best:
            best, confidence = eased.budget * max(0.0, bound.upper), bound.confidence
    relaxed = float((points.double() * images.double()).sum())
    return Certificate(best, confidence, relaxed, points, form.multipliers())


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
