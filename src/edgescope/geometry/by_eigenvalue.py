"""Generalized sharpness where it is the largest eigenvalue: in Euclidean norms, plain or preconditioned."""

from __future__ import annotations

import math

from edgescope.geometry.ascent import inner
from edgescope.geometry.bracket import FAILURE, Asked, GeneralizedSharpness
from edgescope.linalg import EigenvalueBound, Metric, top_eigenpairs

_CHUNK = 4
_KEPT = 3  # vectors passed on to the next measurement


def by_eigenvalue(metric: Metric | None, asked: Asked) -> GeneralizedSharpness:
    """The largest eigenvalue in a metric, both ends from one Lanczos run, extended until they agree to within tol."""
    operator, before = asked.operator, asked.operator.products
    kept = min(_KEPT, operator.size)
    start = asked.recalled("vectors", operator.size, kept)
    upper, confidence = math.inf, 1.0
    if asked.certificate:
        most = asked.iterations if start is not None else 2 * asked.iterations
        whitened = start if start is None or metric is None else metric.root(start)
        bound = EigenvalueBound(operator, metric=metric, start=whitened, most=most, failure=FAILURE, seed=asked.seed)
        bound.extend(_CHUNK)
        while not bound.exhausted and bound.upper - bound.lower > asked.tol * abs(bound.upper):
            bound.extend(_CHUNK)
        upper, confidence = bound.upper, bound.confidence
        settled = bound.upper - bound.lower <= asked.tol * abs(bound.upper)
        vectors = bound.vectors(kept).to(operator.dtype)
        vectors = vectors if metric is None else metric.inverse_root(vectors)
    else:
        pairs = top_eigenpairs(operator, k=1, tol=asked.tol, start=start, metric=metric, seed=asked.seed)
        vectors, settled = pairs.vectors, bool(pairs.converged[0])
    direction = vectors[:, :1]
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
        state={"vectors": vectors},
    )
