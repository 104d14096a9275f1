"""Generalized sharpness where it is the largest eigenvalue: in Euclidean norms, plain or preconditioned."""

from __future__ import annotations

import math

from edgescope.geometry.ascent import inner
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.linalg import EigenvalueBound, Metric, top_eigenpairs

_CHUNK = 4


def by_eigenvalue(metric: Metric | None, asked: Asked) -> GeneralizedSharpness:
    """The largest eigenvalue in a metric, both ends from one Lanczos run, extended until they agree to within tol."""
    operator, before = asked.operator, asked.operator.products
    upper, confidence = math.inf, 1.0
    if asked.certificate:
        most = asked.iterations if asked.memory else 2 * asked.iterations
        bound = EigenvalueBound(operator, metric=metric, most=most, failure=FAILURE, seed=asked.seed).extend(_CHUNK)
        while not bound.exhausted and bound.upper - bound.lower > asked.tol * abs(bound.upper):
            bound.extend(_CHUNK)
        upper, confidence = bound.upper, bound.confidence
        settled = bound.upper - bound.lower <= asked.tol * abs(bound.upper)
        direction = bound.vectors(1).to(operator.dtype)
        direction = direction if metric is None else metric.inverse_root(direction)
    else:
        start = asked.recalled("direction", operator.size)
        start = None if start is None else start[:, None]
        pairs = top_eigenpairs(operator, tol=asked.tol, start=start, metric=metric, seed=asked.seed)
        direction, settled = pairs.vectors, bool(pairs.converged[0])
    length = inner(direction, direction if metric is None else metric.root(metric.root(direction))).sqrt()
    direction = direction / length.to(direction)
    lower = float(inner(direction, operator @ direction))
    return GeneralizedSharpness(
        lower=lower,
        upper=max(upper, lower),
        confidence=confidence,
        direction=direction[:, 0],
        converged=settled,
        method=asked.method,
        lower_products=1 if asked.certificate else operator.products - before,
        upper_products=operator.products - before - 1 if asked.certificate else 0,
    )
