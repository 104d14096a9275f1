"""Generalized sharpness: lower and upper bounds of the largest d'Hd over the unit sphere of a geometry."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError, one_of
from edgescope.geometry.blocks import Blocks
from edgescope.geometry.diagonal import Diagonal
from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import Geometry, as_geometry
from edgescope.geometry.scaled import Scaled
from edgescope.linalg import Operator, OperatorLike, as_operator, from_matrix
from edgescope.linalg.arguments import as_tensor
from edgescope.linalg.operator import products_with_units
from edgescope.memory import require
from edgescope.options import check_bool, checked, integer, real
from edgescope.sharpness.ascent import inner
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.by_ascent import by_ascent
from edgescope.sharpness.by_blocks import by_blocks
from edgescope.sharpness.by_eigenvalue import by_eigenvalue
from edgescope.sharpness.solver_options import Method, SolverOptions

_DENSE = 128  # the largest operator whose matrix is formed, one product a row
_ASYMMETRY = {torch.float64: 1e-8}  # of <u, Hv> - <v, Hu> over |u||Hv|
_ASYMMETRY_ELSE = 1e-4
Start: TypeAlias = GeneralizedSharpness | Mapping[str, Any] | Num[Tensor, " P"] | Num[np.ndarray, " P"]
"""Where a search may start: an earlier result, its state, or a direction."""

_SKEW = 6  # times the skew part of the products: rounding errors of quadratic forms in float32 were up to six times it


@checked(restarts=integer(1), iterations=integer(1), tol=real(above=0, below=1), certificate=check_bool)
@in_plain_arithmetic
def generalized_sharpness(
    operator: OperatorLike,
    geometry: Geometry | str,
    *,
    restarts: int = 8,
    iterations: int = 50,
    seed: int = 0,
    start: Start | None = None,
    gradient: Num[Tensor, " P"] | Num[np.ndarray, " P"] | None = None,
    certificate: bool = True,
    tol: float = 1e-3,
    method: Method = "ascent",
) -> GeneralizedSharpness:
    """Lower and upper bounds of the largest d'Hd over the unit sphere of ``geometry``.

    ``operator`` is an Objective, an :class:`~edgescope.linalg.Operator` or a symmetric matrix; up to 128 rows its
    matrix is formed, one product a row, and a matrix at hand is taken in float64. Geometries of tensors need the
    shapes: an Objective has them, and so has ``linalg.from_matrix(H, shapes=...)``.

    Lower bound: Frank-Wolfe steps with exact line search from ``restarts`` starts at once (top eigenvector, steepest
    direction of the ``gradient``, random ones), each until a step gains no more than ``tol``, at most ``iterations``;
    for Linf on a matrix at hand also moves of single coordinates and of pairs, up to 12 rows from the best of all
    corners, where the maximum is if no diagonal entry is negative. Upper bound: see
    :mod:`~edgescope.sharpness.certificate`, and :mod:`~edgescope.sharpness.majorant` for its quadratic forms. Euclidean
    and Diagonal are eigenvalues, Blocks is computed block by block, and both bounds agree there to within ``tol`` if
    ``iterations`` products suffice.

    ``start`` is an earlier result of the same run (or its ``state``), or a direction: the ascent then begins there, at
    the gradient and at roundings of the relaxation, and the certificate at the earlier multipliers, updated by one
    step: at the edge of stability the upper bound is then about a tenth larger. ``method="frank-wolfe"`` is the lower
    bound as published, for comparison: ``restarts`` Gaussian starts and ``iterations`` fixed steps.

    Cost: products only. Some 200 to 350 without a start; with one at most 60 in Linf, Spectral and their products and
    some 50 in Blocks; some 10 with a start and without a certificate.
    Raises :class:`InputError` for arguments that do not fit, an operator that is not symmetric (checked by two products
    in the first measurement), a gradient of zero, and products that are not finite. Sources: Islamov et al. 2026,
    arXiv 2603.05002; the upper bound is this library's.
    """
    began = time.perf_counter()
    operator, geometry = as_operator(operator), as_geometry(geometry)
    mode = operator.mode
    if operator.shapes is not None:
        geometry = geometry.bind(operator.shapes)
    one_of(method, get_args(Method), "method")
    require(
        restarts * operator.size * operator.dtype.itemsize,
        f"a generalized sharpness from {restarts:,} starts",
        device=operator.device,
        hint="fewer restarts",
    )
    previous = _previous_state(start, operator.size)
    before = operator.products
    rounding = float(previous.get("rounding", 0.0))
    if operator.matrix is not None:
        rounding = _rounding(torch.float64, float(torch.linalg.matrix_norm(operator.matrix.double())), 0.0)
    elif not previous:
        rounding = _checked_symmetry(operator, seed)
    checked = operator.products - before
    if gradient is not None:
        gradient = _checked_gradient(gradient, operator)
    measured = operator
    formed = operator.matrix is None and operator.size <= _DENSE and method == "ascent"
    if formed:
        products = products_with_units(operator)
        skew = float(torch.linalg.matrix_norm(products - products.T)) / 2
        rounding = _rounding(operator.dtype, float(torch.linalg.matrix_norm(products)), skew)
        operator = from_matrix((products + products.T) / 2, operator.shapes)
    elif operator.matrix is not None:
        operator = from_matrix(operator.matrix.double(), operator.shapes)
    draw = seed + 1000 * int(previous.get("count", torch.tensor(0, device="cpu")))
    options = SolverOptions(operator, restarts, iterations, draw, gradient, certificate, tol, method, previous)
    with measured.held():
        found = _measured(geometry, options)
    slack = rounding + measured.product_error * (math.sqrt(measured.size) if formed else 1.0)
    reach = float(inner(found.direction[:, None], found.direction[:, None]))
    farthest = geometry.squared_radius(operator.size)
    kept = {
        "count": previous.get("count", torch.tensor(0, device="cpu")) + 1,
        "rounding": torch.tensor(rounding, dtype=torch.float64, device="cpu"),
    }
    return replace(
        found,
        lower=found.lower - slack * reach,
        upper=found.upper + slack * (farthest if math.isfinite(farthest) else reach),
        lower_products=checked + (operator.size if formed else found.lower_products),
        upper_products=0 if formed else found.upper_products,
        seconds=time.perf_counter() - began,
        mode=mode,
        state=found.state | {"direction": found.direction} | kept,
    )


def _measured(geometry: Geometry, options: SolverOptions) -> GeneralizedSharpness:
    if isinstance(geometry, Scaled):
        return _scaled(geometry, options)
    if options.method == "ascent" and isinstance(geometry, Euclidean | Diagonal):
        return by_eigenvalue(geometry.metric() if isinstance(geometry, Diagonal) else None, options)
    if options.method == "ascent" and isinstance(geometry, Blocks):
        return by_blocks(geometry, options)
    return by_ascent(geometry, options)


def _scaled(geometry: Scaled, options: SolverOptions) -> GeneralizedSharpness:
    """The sharpness of C H C in the inner geometry; its direction d stands for C d."""
    outer = options.operator
    matrix = None if outer.matrix is None else geometry.scale(geometry.scale(outer.matrix).T)
    inside = outer.derived(lambda block: geometry.scale(outer @ geometry.scale(block)), matrix=matrix)
    previous = dict(options.previous)
    if "direction" in previous:
        direction = previous["direction"].to(outer.device)  # that of a checkpoint is on the CPU
        previous["direction"] = direction / geometry.scale(torch.ones_like(direction))
    gradient = None if options.gradient is None else geometry.scale(options.gradient)
    found = _measured(geometry.inner, replace(options, operator=inside, gradient=gradient, previous=previous))
    return replace(found, direction=geometry.scale(found.direction))


def _previous_state(start: Start | None, size: int) -> dict[str, Tensor]:
    if start is None:
        return {}
    if isinstance(start, GeneralizedSharpness):
        start = start.state
    expected = "an earlier result, its state, or a vector"
    given = start if isinstance(start, Mapping) else {"direction": start}
    state = {name: as_tensor(f"a start with a {name}", value, expected) for name, value in given.items()}
    direction = state.get("direction")
    if direction is None:
        raise InputError("a start without a direction", expected=expected)
    if tuple(direction.shape) != (size,):
        raise InputError(f"a start of shape {tuple(direction.shape)}", expected=f"shape ({size},)")
    if not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        raise InputError("a start that is zero or not finite", expected="a direction")
    return state


def _checked_gradient(gradient: Any, operator: Operator) -> Tensor:
    gradient = as_tensor("the gradient", gradient, f"a vector of {operator.size} numbers")
    if tuple(gradient.shape) != (operator.size,):
        raise InputError(f"a gradient of shape {tuple(gradient.shape)}", expected=f"shape ({operator.size},)")
    if not bool(torch.isfinite(gradient).all()):
        raise InputError("the gradient has entries that are NaN or infinite", expected="finite entries")
    if not bool(gradient.any()):
        raise InputError("the gradient is zero and has no steepest direction", hint="gradient=None")
    return gradient.detach().to(operator.device, operator.dtype)


def _checked_symmetry(operator: Operator, seed: int) -> float:
    """The possible error by rounding of the form of a unit vector; InputError where the products are not symmetric.

    The difference for one pair of vectors is a normal number whose deviation is twice the norm of the skew part.
    """
    pair = torch.randn(
        operator.size, 2, generator=torch.Generator().manual_seed(seed), dtype=operator.dtype, device="cpu"
    )
    pair = pair.to(operator.device)
    images = (operator @ pair).double()
    pair = pair.double()
    difference = abs(float(pair[:, 0] @ images[:, 1] - pair[:, 1] @ images[:, 0]))
    scale = float(pair.norm() * images.norm())
    if difference > _ASYMMETRY.get(operator.dtype, _ASYMMETRY_ELSE) * scale:
        raise InputError(
            f"the operator is not symmetric (<u, Hv> and <v, Hu> differ by {difference / scale:.1e} of |u||Hv|)",
            expected="a symmetric one",
            hint="a Hessian, or (H + H.T) / 2",
        )
    return _rounding(operator.dtype, float(images.norm()) / 2**0.5, difference)


def _rounding(dtype: torch.dtype, norm: float, skew: float) -> float:
    """The possible error of the form of a unit vector: by the skew part of the products, and at least 8 eps ||H||_F."""
    return _SKEW * skew + 8 * torch.finfo(dtype).eps * norm
