"""Directional smoothness: the curvature that one step actually met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from scipy.special import roots_jacobi
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.geometry.geometry import Geometry, as_geometry

ROUNDINGS = 8  # units in the last place that a loss over many samples, or a gradient's inner product, may be off by
ENOUGH = 0.01  # differences are trusted while their rounding error is below this share of the value
NODES = 3


class Smooth(Protocol):
    """What directional smoothness needs of an objective."""

    def loss(self, w: Float[Tensor, " P"]) -> Tensor: ...

    def gradient(self, w: Float[Tensor, " P"]) -> Float[Tensor, " P"]: ...

    def hvp(self, V: Float[Tensor, " P"], w: Float[Tensor, " P"]) -> Float[Tensor, " P"]: ...


@dataclass(frozen=True)
class Smoothness:
    """Directional smoothness of one step, in the unit of a Hessian eigenvalue (loss over squared norm).

    ``error`` estimates its absolute error: rounding for the method ``"differences"``, rounding and quadrature for
    ``"products"``. ``cost`` is what was spent, without the pieces that the caller brought along.
    """

    value: float
    error: float
    method: Literal["differences", "products"]
    cost: Cost


def directional_smoothness(
    objective: Smooth,
    w: Float[Tensor, " P"],
    w_next: Float[Tensor, " P"],
    geometry: Geometry | str = "euclidean",
    *,
    loss_w: Tensor | float | None = None,
    gradient_w: Float[Tensor, " P"] | None = None,
    loss_next: Tensor | float | None = None,
    method: Literal["auto", "products"] = "auto",
) -> Smoothness:
    """D = (L(y) - L(w) - <g, y - w>) / (||y - w||^2 / 2) from w to y = ``w_next``, in ``geometry``.

    A step w - lr ||g||_* s of steepest descent changes the loss by -lr (1 - lr D / 2) ||g||_*^2 exactly: it rises iff
    D > 2/lr. A normalized one, w - lr s, changes it by -lr (||g||_* - lr D / 2): it rises iff D > 2 ||g||_* / lr.

    Where the step is so small that rounding in the losses exceeds 1% of the value, and with ``method="products"``, it
    is computed from the same quantity without cancellation, D = 2 int_0^1 (1 - t) <d, H(w + t d) d> dt / ||d||^2 with
    d = y - w, by three Gauss-Jacobi nodes (exact for a loss that is a polynomial of degree 7 along the segment). The
    error of the quadrature is estimated, on the large side, by the rule on its outer two nodes. Kinks (ReLU) between
    the nodes do not enter an integral of Hessians; they do enter differences. By differences D is the loss change said
    in other words; by products it predicts it.

    Cost: two losses and one gradient, less whatever of ``loss_w``, ``gradient_w``, ``loss_next`` is given (none of them
    with ``method="products"``); three products at new points if the integral is needed. Raises :class:`InputError` for
    vectors of different shapes, equal points, a geometry that does not fit, or figures that are not finite. Source:
    Mishkin et al. 2024, arXiv 2403.04081, without their absolute value; Islamov et al. 2026, arXiv 2603.05002.
    """
    if w.ndim != 1 or w.shape != w_next.shape:
        raise InputError(
            f"a step between points of shapes {tuple(w.shape)} and {tuple(w_next.shape)}",
            expected="two flat vectors alike",
        )
    step = w_next.double() - w.double()
    norm, layout = as_geometry(geometry), getattr(objective, "layout", None)
    length = float((norm if layout is None else norm.bind([slot.shape for slot in layout])).norm(step))
    if not math.isfinite(length):
        raise InputError("a step between points that are not finite (NaN or infinity)")
    if length == 0:
        raise InputError("directional smoothness of a step of length zero", expected="two different points")

    cost = Cost()
    if method == "auto":
        cost = Cost(losses=(loss_w is None) + (loss_next is None), gradients=int(gradient_w is None))
        before = _number(objective.loss(w) if loss_w is None else loss_w)
        after = _number(objective.loss(w_next) if loss_next is None else loss_next)
        gradient = (objective.gradient(w) if gradient_w is None else gradient_w).double()
        half = length**2 / 2
        value = (after - before - float(gradient @ step)) / half
        error = _rounding(w) * (abs(after) + abs(before) + float(gradient.norm() * step.norm())) / half
        if not math.isfinite(value):
            raise InputError("the loss or its gradient at an end of the step is not finite (NaN or infinity)")
        if error <= ENOUGH * abs(value):
            return Smoothness(value, error, "differences", cost)

    nodes, weights = (each.tolist() for each in roots_jacobi(NODES, 1, 0))
    curvatures, largest = [], 0.0
    for x in nodes:
        point = (w.double() + (x + 1) / 2 * step).to(w.dtype)
        product = objective.hvp(step.to(w.dtype), point).double()
        curvatures.append(float(product @ step) / length**2)
        largest = max(largest, float(product.norm() * step.norm()) / length**2)
    value = sum(weight * c for weight, c in zip(weights, curvatures, strict=True)) / 2
    error = abs(value - _through_outer_nodes(nodes, curvatures)) + _rounding(w) * largest
    if not math.isfinite(value):
        raise InputError("a Hessian product on the segment of the step is not finite (NaN or infinity)")
    return Smoothness(value, error, "products", cost + Cost(products=NODES))


def _number(loss: Tensor | float) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _rounding(w: Tensor) -> float:
    return ROUNDINGS * torch.finfo(w.dtype).eps


def _through_outer_nodes(nodes: list[float], values: list[float]) -> float:
    """The mean, under weight (1 - x)/2 on [-1, 1], of the line through the first and the last value."""
    slope = (values[-1] - values[0]) / (nodes[-1] - nodes[0])
    return values[0] + slope * (-1 / 3 - nodes[0])
