"""Third derivatives: gradients of entries of the Hessian in a basis, from differences of gradients or of products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError, one_of
from edgescope.objective.central_differences import kinks_of
from edgescope.objective.objective import Objective
from edgescope.short_errors import short_errors

Method = Literal["gradients", "products"]

STEPS = {
    ("gradients", torch.float64): 3e-3,
    ("gradients", torch.float32): 3e-2,
    ("products", torch.float64): 3e-4,
    ("products", torch.float32): 1e-2,
}
"""The lengths of the differences, in weights of a norm of at least :data:`LENGTH`."""

LENGTH = 5.0
"""The norm of the weights below which steps are shorter, in proportion to it."""

AGREEMENT = 1e-2
"""How far both methods may be apart, relative to the result."""

_ROUNDING = 30  # of a derivative, in units of eps times what is differenced over the step: smaller ones are zero
_TRUNCATION = 2.5  # the error of the second difference of gradients, over its distance from that of losses


@dataclass(frozen=True)
class CurvatureGradient:
    """``vectors`` (P, m), the gradients of u_i^T H u_j for i <= j row by row, m = k(k+1)/2; their relative ``error``.

    The error is estimated from the third derivatives along the directions, which losses (or, of products, gradients)
    at the same places give in another way: the largest difference over the norm of the result. It sees steps that are
    too long or too short, not derivatives that are wrong: for these see :func:`compared`.
    """

    vectors: Float[Tensor, "P m"]
    error: float
    cost: Cost


@short_errors
def curvature_gradient(
    objective: Objective,
    V: Float[Tensor, "P k"],
    w: Float[Tensor, " P"] | None = None,
    method: Method | Literal["autograd"] | None = None,
) -> CurvatureGradient:
    """The gradients over w of u_i^T H(w) u_j for all pairs of columns u_i of ``V``, at ``w`` (None: the live weights).

    Args:
        objective: a smooth loss; kinks (ReLU) have curvature that no difference over them gives.
        V: the directions (P, k), of any length.
        w: flat weights (P,).
        method: "gradients" takes second differences of gradients, T(v, v) = (g(w + e v) + g(w - e v) - 2 g(w))/e^2 for
            unit vectors v, and polarisation for pairs; "products" takes first differences of Hessian products. By
            default gradients in float64, and products in float32, where second differences would be rounding.

    Cost: 1 + k(k+1) gradients, or k(k+1) products and, where graphs are not kept, 2k gradients. Third derivatives by
    automatic differentiation are not offered: for LayerNorm and for BatchNorm in training mode they are wrong by up to
    14% in PyTorch 2.13 (issues 175754 and 186256), without an error. Raises :class:`InputError` for vectors that do not
    fit.
    """
    if method is None:
        method = "products" if objective.dtype == torch.float32 else "gradients"
    if method == "autograd":
        raise InputError(
            "third derivatives by automatic differentiation, which PyTorch gets wrong for LayerNorm and BatchNorm",
            expected="method='gradients' or method='products'",
        )
    one_of(method, get_args(Method), "method")
    if not isinstance(V, Tensor) or V.ndim != 2 or V.shape[0] != objective.size or not V.shape[1]:
        shape = tuple(V.shape) if isinstance(V, Tensor) else type(V).__name__
        raise InputError(f"directions of shape {shape}", expected=f"a tensor of shape ({objective.size}, k)")
    paid = objective.spent
    place = (objective.parameters() if w is None else w).to(objective.device, objective.dtype)
    directions = V.to(dtype=objective.dtype, device=objective.device)
    lengths = torch.linalg.vector_norm(directions, dim=0)
    if not bool(torch.isfinite(lengths).all()) or bool((lengths == 0).any()):
        raise InputError("directions that are zero or not finite", expected="finite vectors of any length above 0")
    units = directions / lengths
    step = difference_step(place, method)
    found, error = (_of_gradients if method == "gradients" else _of_products)(objective, units, place, step)
    k = V.shape[1]
    rows, columns = torch.triu_indices(k, k, device="cpu")
    return CurvatureGradient(found * (lengths[rows] * lengths[columns]), error, objective.spent - paid)


@short_errors
def compared(objective: Objective, V: Float[Tensor, "P k"], w: Float[Tensor, " P"] | None = None) -> float:
    """How far both methods are apart along the first direction of ``V``, relative to the result.

    Raises :class:`EdgescopeError` where that is more than 1e-2: the loss is not smooth at this scale, or its gradients
    are rounding. Cost: 3 gradients and 2 products.
    """
    first = V[:, :1]
    gradients = curvature_gradient(objective, first, w, "gradients").vectors
    products = curvature_gradient(objective, first, w, "products").vectors
    size = float(torch.linalg.vector_norm(products))
    apart = float(torch.linalg.vector_norm(products - gradients))
    apart = apart / size if size else (math.inf if apart else 0.0)
    if not apart <= AGREEMENT and size:
        raise EdgescopeError(
            f"third derivatives from differences of gradients and of products are {apart:.1%} apart",
            expected=f"at most {AGREEMENT:.0%}, as for a smooth loss",
            hint="Objective(dtype=torch.float64), or smooth operations such as tanh and GELU",
        )
    return apart


def kinked_operations(objective: Objective) -> list[str]:
    """Operations of the loss whose derivative jumps, such as ReLU: across them no difference is a derivative.

    Cost: a loss on a few samples.
    """
    with torch.enable_grad():  # what the loss is made of is read from its graph
        return kinks_of(objective._problem, objective._at(None))


def difference_step(w: Float[Tensor, " P"], method: Method) -> float:
    """The length of a difference along a unit vector at ``w``."""
    norm = float(torch.linalg.vector_norm(w))
    return STEPS[method, w.dtype] * (min(1.0, norm / LENGTH) if norm else 1.0)


def _of_gradients(
    objective: Objective, units: Float[Tensor, "P k"], w: Float[Tensor, " P"], step: float
) -> tuple[Float[Tensor, "P m"], float]:
    """For unit vectors: the derivatives, and their error from losses at the same places."""
    k = units.shape[1]
    here = objective.gradient(w)

    def along(vector: Float[Tensor, " P"]) -> tuple[Float[Tensor, " P"], float]:
        """The second derivative of the gradient along a vector, and the third of the loss along it, from losses."""
        ahead, behind = w + step * vector, w - step * vector
        total = objective.gradient(ahead)
        slope = float(objective.loss(ahead))
        total = total + objective.gradient(behind) - 2 * here
        slope = slope - float(objective.loss(behind)) - 2 * step * float(here @ vector)
        return total / step**2, 3 * slope / step**3

    diagonal = [along(units[:, i]) for i in range(k)]
    columns, errors = [], []
    for i in range(k):
        second, third = diagonal[i]
        columns.append(second)
        size = float(torch.linalg.vector_norm(second))
        errors.append(_TRUNCATION * abs(float(units[:, i] @ second) - third) / size if size else 0.0)
        for j in range(i + 1, k):
            both, _ = along(units[:, i] + units[:, j])
            columns.append((both - second - diagonal[j][0]) / 2)
    return _above_rounding(torch.stack(columns, dim=1), here, step**2), max(errors)


def _of_products(
    objective: Objective, units: Float[Tensor, "P k"], w: Float[Tensor, " P"], step: float
) -> tuple[Float[Tensor, "P m"], float]:
    """For unit vectors: the derivatives, and their error from gradients at the same places."""
    k = units.shape[1]
    here = objective.gradient(w)
    columns, errors = [], []
    for i in range(k):
        parts, slopes = [], []
        for place in (w + step * units[:, i], w - step * units[:, i]):
            parts.append(objective.hvp(units[:, i:], place))
            slopes.append(objective.gradient(place))
        differences = (parts[0] - parts[1]) / (2 * step)
        columns.append(_above_rounding(differences, parts[0], step))
        size = float(torch.linalg.vector_norm(differences[:, 0]))
        third = float(units[:, i].double() @ (slopes[0].double() + slopes[1].double() - 2 * here.double())) / step**2
        errors.append(abs(float(units[:, i] @ differences[:, 0]) - third) / size if size else 0.0)
    return torch.cat(columns, dim=1), max(errors)


def _above_rounding(
    found: Float[Tensor, "P m"], size: Float[Tensor, " P"] | Float[Tensor, "P m"], step: float
) -> Float[Tensor, "P m"]:
    """The derivatives, zero where they are nothing but the rounding of what was differenced: those of a quadratic."""
    rounding = _ROUNDING * torch.finfo(found.dtype).eps * float(torch.linalg.vector_norm(size)) / step
    return found * (torch.linalg.vector_norm(found, dim=0) > rounding)
