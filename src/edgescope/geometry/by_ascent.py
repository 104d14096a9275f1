"""Generalized sharpness in any geometry: climbs from many starts below, a fitted form above."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgescope.geometry.ascent import Climb, climb, frank_wolfe, on_sphere
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.geometry.certificate import Certificate, certify
from edgescope.geometry.flips import polish
from edgescope.geometry.geometry import Geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.majorant import majorant
from edgescope.linalg import EigenvalueBound, Operator

_TOP = 20  # products for the top eigenvector, a start and a plain bound of a first measurement
_RANK, _DENSE_RANK = 8, 16  # columns of the relaxation; more where products are free
_STEPS, _REFRESH = 12, 1  # of the relaxation: from nothing, and from an earlier result
_LANCZOS = 28  # products for the certificate's eigenvalue
_STARTS, _HEAT, _AGAIN = 4, 1, 7  # a later climb: its starts, the steps of all, and those of the best


def by_ascent(geometry: Geometry, asked: Asked) -> GeneralizedSharpness:
    """The certificate first, since its relaxation gives starts for the climb."""
    operator, before = asked.operator, asked.operator.products
    upper, confidence, starts = math.inf, 1.0, []
    previous = asked.recalled("direction", operator.size)
    if previous is not None:
        starts.append(previous[:, None])
    elif asked.method == "ascent":
        top = EigenvalueBound(operator, most=_TOP, failure=FAILURE / 2, seed=asked.seed).extend(_TOP)
        starts.append(top.vectors(1).to(operator.dtype))
        upper, confidence = max(0.0, top.upper) * geometry.longest_square(operator.size), top.confidence
    if asked.gradient is not None:
        starts.append(geometry.steepest(asked.gradient)[:, None])
    lower_products = operator.products - before

    proof = _certificate(geometry, asked) if asked.certificate else None
    if proof is not None:
        upper, confidence = min(upper, proof.upper), min(confidence, proof.confidence)
        starts.append(proof.roundings)
    upper_products = operator.products - before - lower_products

    end = _climbed(geometry, asked, starts, cold=previous is None)
    best = end.best()
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=upper if asked.certificate else math.inf,
        confidence=1.0 if confidence == 1 or not asked.certificate else 1 - FAILURE,
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
        form = form.restored(multipliers)
        steps = asked.iterations if free else _REFRESH
    else:
        draw = asked.random(rank)
        points = form.fitted(draw).power(draw, -1.0)
    return certify(
        operator,
        geometry,
        form,
        points,
        steps=min(steps, asked.iterations),
        lanczos=_LANCZOS,
        failure=FAILURE / 2,
        seed=asked.seed + 1,
        tol=asked.tol / 10,
    )


def _climbed(geometry: Geometry, asked: Asked, starts: list[Tensor], cold: bool) -> Climb:
    """From the starts in their order, and random ones where more are asked for; a later measurement takes few."""
    operator = asked.operator
    if asked.method == "frank-wolfe":
        return frank_wolfe(operator, geometry, asked.random(asked.restarts), asked.iterations)
    if not cold:
        few = torch.cat(starts, dim=1)[:, :_STARTS]
        return _polished(
            geometry, operator, climb(operator, geometry, few, min(_AGAIN, asked.iterations), asked.tol, _HEAT)
        )
    known = torch.cat(starts, dim=1)[:, : asked.restarts]
    every = torch.cat([known, asked.random(asked.restarts - known.shape[1])], dim=1)
    return _polished(geometry, operator, climb(operator, geometry, every, asked.iterations, asked.tol))


def _polished(geometry: Geometry, operator: Operator, end: Climb) -> Climb:
    if operator.matrix is None or not isinstance(geometry, Linf):
        return end
    better = polish(operator.matrix, end.points, moves=50 + 5 * operator.size)
    return on_sphere(geometry, better, operator @ better, end.settled)
