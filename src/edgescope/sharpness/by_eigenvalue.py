"""Generalized sharpness where it is the largest eigenvalue: in Euclidean norms, plain or preconditioned."""

from __future__ import annotations

import math

from edgescope.linalg import EigenvalueBound, Metric, top_eigenpairs
from edgescope.sharpness.ascent import inner
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.solver_options import FAILURE_PROBABILITY, SolverOptions

_CHUNK = 4


def by_eigenvalue(metric: Metric | None, options: SolverOptions) -> GeneralizedSharpness:
    """The largest eigenvalue in a metric, both ends from one Lanczos run, extended until they agree to within tol."""
    operator, before = options.operator, options.operator.products
    upper, confidence = math.inf, 1.0
    if options.certificate:
        most = options.iterations if options.previous else 2 * options.iterations
        bound = EigenvalueBound(
            operator, metric=metric, max_steps=most, failure_probability=FAILURE_PROBABILITY, seed=options.seed
        ).extend(_CHUNK)
        while not bound.exhausted and bound.upper - bound.lower > options.tol * abs(bound.upper):
            bound.extend(_CHUNK)
        upper, confidence = bound.upper, bound.confidence
        settled = bound.upper - bound.lower <= options.tol * abs(bound.upper)
        direction = bound.vectors(1).to(operator.dtype)
        direction = direction if metric is None else metric.inverse_root(direction)
    else:
        start = options.from_previous("direction", operator.size)
        start = None if start is None else start[:, None]
        pairs = top_eigenpairs(operator, tol=options.tol, start=start, metric=metric, seed=options.seed)
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
        method=options.method,
        lower_products=1 if options.certificate else operator.products - before,
        upper_products=operator.products - before - 1 if options.certificate else 0,
    )
