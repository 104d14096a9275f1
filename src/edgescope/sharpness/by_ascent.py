"""Generalized sharpness in any geometry: ascent from many starts as the lower bound, a certificate as the upper."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgescope.geometry.geometry import Geometry
from edgescope.geometry.linf import Linf
from edgescope.linalg import EigenvalueBound, Operator
from edgescope.sharpness.ascent import Climb, climb, frank_wolfe, on_sphere
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.certificate import Certificate, certify
from edgescope.sharpness.flips import best_corners, polish
from edgescope.sharpness.majorant import majorant
from edgescope.sharpness.solver_options import FAILURE_PROBABILITY, SolverOptions

_TOP = 20  # products for the top eigenvector, a start and a plain bound of a first measurement
_RANK, _DENSE_RANK = 8, 16  # columns of the relaxation; more where products are free
_STEPS, _REFRESH = 12, 1  # of the relaxation: from nothing, and from an earlier result
_LANCZOS = 28  # products for the certificate's eigenvalue
_FEW_ROWS, _CORNERS = 12, 4  # rows up to which all corners of a cube are compared, and those from which it is polished
_STARTS, _ALL_UNTIL, _STEPS_AGAIN = 4, 1, 7  # a later ascent: its starts, the steps of all, and those of the best


def by_ascent(geometry: Geometry, options: SolverOptions) -> GeneralizedSharpness:
    """The certificate first, since its relaxation gives starts for the ascent."""
    operator, before = options.operator, options.operator.products
    upper, confidence, starts = math.inf, 1.0, []
    previous = options.from_previous("direction", operator.size)
    if previous is not None:
        starts.append(previous[:, None])
    elif options.method == "ascent":
        top = EigenvalueBound(
            operator, max_steps=_TOP, failure_probability=FAILURE_PROBABILITY / 2, seed=options.seed
        ).extend(_TOP)
        starts.append(top.vectors(1).to(operator.dtype))
        upper, confidence = max(0.0, top.upper) * geometry.squared_radius(operator.size), top.confidence
    if options.gradient is not None:
        starts.append(geometry.steepest(options.gradient)[:, None])
    lower_products = operator.products - before

    proof = _certificate(geometry, options) if options.certificate else None
    if proof is not None:
        upper, confidence = min(upper, proof.upper), min(confidence, proof.confidence)
        starts.append(proof.roundings)
    upper_products = operator.products - before - lower_products

    end = _climbed(geometry, options, starts, cold=previous is None)
    best = end.best()
    return GeneralizedSharpness(
        lower=float(end.values[best]),
        upper=max(upper, float(end.values[best])) if options.certificate else math.inf,
        confidence=1.0 if confidence == 1 or not options.certificate else 1 - FAILURE_PROBABILITY,
        direction=end.points[:, best].clone(),
        converged=bool(end.settled[best]),
        method=options.method,
        lower_products=operator.products - before - upper_products,
        upper_products=upper_products,
        state={} if proof is None else {"points": proof.points, "multipliers": proof.multipliers},
    )


def _certificate(geometry: Geometry, options: SolverOptions) -> Certificate | None:
    operator = options.operator
    form = majorant(geometry, operator.size)
    if not math.isfinite(form.budget):
        return None
    free = operator.matrix is not None
    rank = min(operator.size, _DENSE_RANK if free else _RANK)
    points, multipliers = options.from_previous("points", operator.size, rank), options.previous.get("multipliers")
    steps = options.iterations if free else _STEPS
    if points is not None and multipliers is not None and multipliers.shape == form.multipliers().shape:
        form = form.restored(multipliers)
        steps = options.iterations if free else _REFRESH
    else:
        draw = options.random(rank)
        points = form.fitted(draw).power(draw, -1.0)
    return certify(
        operator,
        geometry,
        form,
        points,
        steps=min(steps, options.iterations),
        lanczos=_LANCZOS,
        failure=FAILURE_PROBABILITY / 2,
        seed=options.seed + 1,
        tol=options.tol / 10,
    )


def _climbed(geometry: Geometry, options: SolverOptions, starts: list[Tensor], cold: bool) -> Climb:
    """From the starts in their order, and random ones up to the number of restarts; a later measurement uses few."""
    operator = options.operator
    if options.method == "frank-wolfe":
        return frank_wolfe(operator, geometry, options.random(options.restarts), options.iterations)
    if not cold:
        few = torch.cat(starts, dim=1)[:, :_STARTS]
        return _polished(
            geometry,
            operator,
            climb(operator, geometry, few, min(_STEPS_AGAIN, options.iterations), options.tol, _ALL_UNTIL),
        )
    known = torch.cat(starts, dim=1)[:, : options.restarts]
    every = torch.cat([known, options.random(options.restarts - known.shape[1])], dim=1)
    return _polished(geometry, operator, climb(operator, geometry, every, options.iterations, options.tol))


def _polished(geometry: Geometry, operator: Operator, end: Climb) -> Climb:
    if operator.matrix is None or not isinstance(geometry, Linf):
        return end
    points, settled = end.points, end.settled
    if operator.size <= _FEW_ROWS:
        corners = best_corners(operator.matrix, _CORNERS).to(points)
        points = torch.cat([points, corners], dim=1)
        settled = torch.cat([settled, settled.new_ones(corners.shape[1])])
    better = polish(operator.matrix, points, moves=50 + 5 * operator.size)
    return on_sphere(geometry, better, operator @ better, settled)
