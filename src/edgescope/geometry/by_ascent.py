"""Generalized sharpness in any geometry: climbs from many starts below, a fitted form above."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.geometry.ascent import Climb, climb, frank_wolfe, on_sphere
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.geometry.certificate import Certificate, certify
from edgescope.geometry.flips import polish
from edgescope.geometry.geometry import Geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.majorant import majorant
from edgescope.linalg import EigenvalueBound

_TOP = 20  # products for the top eigenvector, a start and a plain bound of a first measurement
_RANK, _DENSE_RANK = 8, 16  # columns of the relaxation; more where products are free
_STEPS, _REFRESH = 8, 1  # of the relaxation: from nothing, and from an earlier result
_LANCZOS = 30  # products for the certificate's eigenvalue


def by_ascent(geometry: Geometry, asked: Asked) -> GeneralizedSharpness:
    """The certificate first, since the maximiser of its relaxation gives starts, by random combinations of columns."""
    operator, before = asked.operator, asked.operator.products
    upper, confidence, starts = math.inf, 1.0, []
    previous = asked.recalled("direction", operator.size)
    if previous is not None:
        starts.append(previous[:, None])
    elif asked.method == "ascent":
        top = EigenvalueBound(operator, most=_TOP, failure=FAILURE, seed=asked.seed).extend(_TOP)
        starts.append(top.vectors(1).to(operator.dtype))
        upper, confidence = max(0.0, top.upper) * geometry.longest_square(operator.size), top.confidence
    if asked.gradient is not None:
        starts.append(geometry.steepest(asked.gradient)[:, None])
    lower_products = operator.products - before

    proof = _certificate(geometry, asked) if asked.certificate else None
    if proof is not None and proof.upper < upper:
        upper, confidence = proof.upper, proof.confidence
    upper_products = operator.products - before - lower_products

    end = _climbed(geometry, asked, starts, None if proof is None else proof.points, cold=previous is None)
    best = end.best()
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=upper if asked.certificate else math.inf,
        confidence=confidence if asked.certificate else 1.0,
        direction=end.points[:, best].clone(),
        converged=bool(end.settled[best]),
        method=asked.method,
        lower_products=operator.products - before - upper_products,
        upper_products=upper_products,
        state={} if proof is None else {"points": proof.points, "multipliers": proof.multipliers},
    )


def _certificate(geometry: Geometry, asked: Asked) -> Certificate | None:
    operator = asked.operator
    form = majorant(geometry, operator.size)
    if not math.isfinite(form.budget):
        return None
    free = operator.matrix is not None
    rank = min(operator.size, _DENSE_RANK if free else _RANK)
    points, multipliers = asked.recalled("points", operator.size, rank), asked.memory.get("multipliers")
    steps = asked.iterations if free else _STEPS
    if points is not None and multipliers is not None and multipliers.shape == form.multipliers().shape:
        form, steps = form.restored(multipliers), asked.iterations if free else _REFRESH
    else:
        draw = asked.random(rank)
        points = form.fitted(draw).power(draw, -1.0)
    return certify(
        operator,
        form,
        points,
        steps=min(steps, asked.iterations),
        lanczos=_LANCZOS,
        failure=FAILURE,
        seed=asked.seed + 1,
        tol=asked.tol / 10,
    )


def _climbed(
    geometry: Geometry, asked: Asked, starts: list[Tensor], relaxed: Float[Tensor, "P r"] | None, cold: bool
) -> Climb:
    operator = asked.operator
    if asked.method == "frank-wolfe":
        return frank_wolfe(operator, geometry, asked.random(asked.restarts), asked.iterations)
    missing = max(asked.restarts - len(starts), 0) if cold else 0
    draw = asked.random(missing)
    if relaxed is not None and relaxed.shape[1] and missing > 1:
        mixes = torch.randn(relaxed.shape[1], missing // 2, generator=torch.Generator().manual_seed(asked.seed))
        draw[:, : missing // 2] = geometry.steepest(relaxed @ mixes.to(relaxed))
    end = climb(operator, geometry, torch.cat([*starts, draw], dim=1), asked.iterations, asked.tol)
    if isinstance(geometry, Linf) and operator.matrix is not None:
        better = polish(operator.matrix, end.points, moves=50 + 5 * operator.size)
        end = on_sphere(geometry, better, operator @ better, end.settled)
    return end
