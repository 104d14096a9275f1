"""Generalized sharpness: the largest d'Hd over the unit sphere of a geometry, between a value and a certificate."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry.blocks import Blocks
from edgescope.geometry.bracket import Asked, GeneralizedSharpness, Method
from edgescope.geometry.by_ascent import by_ascent
from edgescope.geometry.by_blocks import by_blocks
from edgescope.geometry.by_eigenvalue import by_eigenvalue
from edgescope.geometry.diagonal import Diagonal
from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import Geometry, as_geometry
from edgescope.geometry.scaled import Scaled
from edgescope.linalg import Operator, as_operator, from_matrix, to_matrix

_DENSE = 128  # the largest operator whose matrix is formed, one product a row
_ASYMMETRY = {torch.float64: 1e-8}  # of <u, Hv> - <v, Hu> over |u||Hv|
_ASYMMETRY_ELSE = 1e-4


def generalized_sharpness(
    thing: Any,
    geometry: Geometry | str,
    *,
    restarts: int = 8,
    iterations: int = 50,
    seed: int = 0,
    start: GeneralizedSharpness | dict[str, Tensor] | Float[Tensor, " P"] | None = None,
    gradient: Float[Tensor, " P"] | None = None,
    certificate: bool = True,
    tol: float = 1e-3,
    method: Method = "ascent",
) -> GeneralizedSharpness:
    """The largest d'Hd over the unit sphere of ``geometry``, from below and from above.

    ``thing`` is an Objective, an :class:`~edgescope.linalg.Operator` or a symmetric matrix; up to 128 rows its matrix
    is formed, one product a row. Geometries of tensors need the shapes: an Objective has them, and so has
    ``linalg.from_matrix(H, shapes=...)``.

    From below: Frank-Wolfe steps with exact line search from ``restarts`` starts at once (top eigenvector, steepest
    direction of the ``gradient``, random ones), each until a step gains no more than ``tol``, at most ``iterations``;
    for Linf on a matrix at hand also single coordinates and pairs. From above: see
    :mod:`~edgescope.geometry.certificate`; the form's families are in :mod:`~edgescope.geometry.majorant`. Euclidean
    and Diagonal are eigenvalues, Blocks is found block by block, and both ends meet there to within ``tol`` as far as
    ``iterations`` products suffice.

    ``start`` is an earlier result of the same run (or its ``state``), or a direction: the climb then begins there, at
    the gradient and at roundings of the relaxation, and the certificate at the earlier one's multipliers, which a step
    refreshes: at the edge of stability its upper end is then some tenth looser. ``method="frank-wolfe"`` is the lower
    end as published, for comparison: ``restarts`` Gaussian starts, ``iterations`` fixed steps, no more.

    Cost: products only. Cold some 200 to 350, with a start at most 60 in Linf, Spectral and their products and some 50
    in Blocks; with neither certificate nor cold start some 10.
    Raises :class:`InputError` for arguments that do not fit, an operator that is not symmetric (two products of the
    first measurement find out), a gradient of zero, and products that are not finite. Sources: Islamov et al. 2026,
    arXiv 2603.05002; the upper end is this library's.
    """
    began = time.perf_counter()
    operator, geometry = as_operator(thing), as_geometry(geometry)
    if operator.shapes is not None:
        geometry = geometry.bind(operator.shapes)
    _check(restarts, iterations, tol, method)
    memory = _memory(start, operator.size)
    before = operator.products
    if operator.matrix is None and not memory:
        _check_symmetry(operator, seed)
    checked = operator.products - before
    if gradient is not None:
        gradient = _checked_gradient(gradient, operator)
    formed = operator.matrix is None and operator.size <= _DENSE and method == "ascent"
    if formed:
        operator = from_matrix(to_matrix(operator), operator.shapes)
    draw = seed + 1000 * int(memory.get("count", torch.tensor(0)))
    asked = Asked(operator, restarts, iterations, draw, gradient, certificate, tol, method, memory)
    found = _measured(geometry, asked)
    return replace(
        found,
        lower_products=operator.size if formed else found.lower_products + checked,
        upper_products=0 if formed else found.upper_products,
        seconds=time.perf_counter() - began,
        state=found.state | {"direction": found.direction, "count": memory.get("count", torch.tensor(0)) + 1},
    )


def _measured(geometry: Geometry, asked: Asked) -> GeneralizedSharpness:
    if isinstance(geometry, Scaled):
        return _scaled(geometry, asked)
    if asked.method == "ascent" and isinstance(geometry, Euclidean | Diagonal):
        return by_eigenvalue(geometry.metric() if isinstance(geometry, Diagonal) else None, asked)
    if asked.method == "ascent" and isinstance(geometry, Blocks):
        return by_blocks(geometry, asked)
    return by_ascent(geometry, asked)


def _scaled(geometry: Scaled, asked: Asked) -> GeneralizedSharpness:
    """The sharpness of C H C in the inner geometry; its direction d stands for C d."""
    outer = asked.operator
    matrix = None if outer.matrix is None else geometry.scale(geometry.scale(outer.matrix).T)
    inside = Operator(
        outer.size,
        lambda block: geometry.scale(outer @ geometry.scale(block)),
        dtype=outer.dtype,
        device=outer.device,
        shapes=outer.shapes,
        matrix=matrix,
    )
    memory = dict(asked.memory)
    if "direction" in memory:
        scale = geometry.scale(torch.ones_like(memory["direction"]))
        memory["direction"] = memory["direction"] / scale
    gradient = None if asked.gradient is None else geometry.scale(asked.gradient)
    found = _measured(geometry.inner, replace(asked, operator=inside, gradient=gradient, memory=memory))
    return replace(found, direction=geometry.scale(found.direction))


def _check(restarts: int, iterations: int, tol: float, method: str) -> None:
    for name, number in (("restarts", restarts), ("iterations", iterations)):
        if number < 1:
            raise InputError(f"{name} = {number}", expected="at least 1")
    if not 0 < tol < 1:
        raise InputError(f"tol = {tol}", expected="a share between 0 and 1")
    if method not in get_args(Method):
        raise InputError(f"method '{method}'", expected=f"one of {', '.join(get_args(Method))}")


def _memory(start: Any, size: int) -> dict[str, Tensor]:
    if start is None:
        return {}
    if isinstance(start, GeneralizedSharpness):
        start = start.state
    memory = {"direction": start} if isinstance(start, Tensor) else dict(start)
    direction = memory.get("direction")
    if direction is None:
        raise InputError("a start without a direction", expected="an earlier result, its state, or a vector")
    if tuple(direction.shape) != (size,):
        raise InputError(f"a start of shape {tuple(direction.shape)}", expected=f"shape ({size},)")
    if not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        raise InputError("a start that is zero or not finite", expected="a direction")
    return memory


def _checked_gradient(gradient: Tensor, operator: Operator) -> Tensor:
    if tuple(gradient.shape) != (operator.size,):
        raise InputError(f"a gradient of shape {tuple(gradient.shape)}", expected=f"shape ({operator.size},)")
    if not bool(torch.isfinite(gradient).all()):
        raise InputError("the gradient has entries that are NaN or infinite", expected="finite entries")
    if not bool(gradient.any()):
        raise InputError("the gradient is zero and has no steepest direction", hint="gradient=None")
    return gradient.detach().to(operator.device, operator.dtype)


def _check_symmetry(operator: Operator, seed: int) -> None:
    pair = torch.randn(operator.size, 2, generator=torch.Generator().manual_seed(seed), dtype=operator.dtype)
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
