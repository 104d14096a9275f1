"""Directional smoothness: the curvature along one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.geometry.geometry import Geometry, as_geometry
from edgescope.notebooks import in_notebooks
from edgescope.options import checked, choice

ROUNDINGS = 8  # units in the last place that a loss over many samples, or a gradient's inner product, may be off by
OF_ONE = 0.1  # units in the last place of 1 that a mean loss may be off by, however small: what cancelled in it
CANCELLED = 0.02  # of a curvature, at most, that is lost where a loss is as small as those
ENOUGH = 0.01  # differences are trusted while their rounding error is below this share of the value
GOOD = 0.03  # gradients are trusted while their estimated error is below this share of the value
NODES = 3


@runtime_checkable
class Smooth(Protocol):
    """What directional smoothness needs of an objective."""

    def loss(self, w: Float[Tensor, " P"]) -> Tensor: ...

    def gradient(self, w: Float[Tensor, " P"]) -> Float[Tensor, " P"]: ...

    def hvp(self, V: Float[Tensor, " P"], w: Float[Tensor, " P"]) -> Float[Tensor, " P"]: ...


@in_notebooks
@dataclass(frozen=True)
class Smoothness:
    """Directional smoothness of one step, in the unit of a Hessian eigenvalue (loss over squared norm).

    ``error`` is an estimated bound on its absolute error: rounding for the method ``"differences"``, rounding and
    quadrature for ``"gradients"`` and ``"products"``. Over 200 small networks the truth was inside it in 99% of
    cases, mostly by far. ``cost`` is what was spent, without the pieces that the caller brought along, ``mode``
    that of the objective.
    """

    value: float
    error: float
    method: Literal["differences", "gradients", "products"]
    cost: Cost
    mode: str | None = None


@checked(method=choice("auto", "products"))
@in_plain_arithmetic
def directional_smoothness(
    objective: Smooth,
    w: Float[Tensor, " P"],
    w_next: Float[Tensor, " P"],
    geometry: Geometry | str = "euclidean",
    *,
    loss_w: Tensor | float | None = None,
    gradient_w: Float[Tensor, " P"] | None = None,
    loss_next: Tensor | float | None = None,
    gradient_next: Float[Tensor, " P"] | None = None,
    method: Literal["auto", "products"] = "auto",
) -> Smoothness:
    """D = (L(y) - L(w) - <g, y - w>) / (||y - w||^2 / 2) from w to y = ``w_next``, in ``geometry``.

    A step w - lr ||g||_* s of steepest descent changes the loss by -lr (1 - lr D / 2) ||g||_*^2 exactly: it rises iff
    D > 2/lr. A normalized one, w - lr s, changes it by -lr (||g||_* - lr D / 2): it rises iff D > 2 ||g||_* / lr.

    Where the step is so small that rounding in the losses exceeds 1% of the value, the change of loss is that of
    Simpson's rule on gradients at both ends and in the middle, D = <4 (g_mid - g) + g_next - g, d> / (3 ||d||^2)
    (exact for a loss that is a polynomial of degree 4 along the segment). Its error is estimated, on the large
    side, by the rule on both ends alone. Where that exceeds 3% of the value, and with ``method="products"``, D is
    computed from the same quantity without cancellation, D = 2 int_0^1 (1 - t) <d, H(w + t d) d> dt / ||d||^2 with
    d = y - w, by three Gauss-Jacobi nodes (exact for a loss that is a polynomial of degree 7 along the segment).
    The error of the quadrature is estimated, on the large side, by the rule on its outer two nodes. Kinks (ReLU)
    between the nodes do not enter an integral of Hessians; they do enter differences, and what these show of them
    beyond their rounding is added to the error. By differences D is the loss change itself, rescaled; by products
    it predicts it.

    A small loss is rounded as what cancels in it is: by 0.1 units in the last place of 1 on average over samples, for
    targets and logits of order 1. In a loss near zero cross-entropy loses as much of its curvature, 0.1 eps / loss, of
    which up to 2% are allowed for where a loss is known (``loss_w`` with ``method="products"``).

    Cost: two losses and one gradient, less whatever of ``loss_w``, ``gradient_w``, ``loss_next`` is given (none of
    them with ``method="products"``); then two gradients, less ``gradient_next``, and three products, where those
    are needed. Raises :class:`InputError` for vectors of different shapes, equal points, a geometry that does not
    fit, or figures that are not finite. Source: Mishkin et al. 2024, arXiv 2403.04081, without their absolute
    value; Islamov et al. 2026, arXiv 2603.05002.
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

    cost, half, mode = Cost(), length**2 / 2, getattr(objective, "mode", None)
    losses = [_number(loss) for loss in (loss_w, loss_next) if loss is not None]
    bracket = None
    if method == "auto":
        cost = Cost(losses=(loss_w is None) + (loss_next is None), gradients=int(gradient_w is None))
        before = _number(objective.loss(w) if loss_w is None else loss_w)
        after = _number(objective.loss(w_next) if loss_next is None else loss_next)
        gradient = (objective.gradient(w) if gradient_w is None else gradient_w).double()
        losses = [before, after]
        value = (after - before - float(gradient @ step)) / half
        reach = float(gradient.norm() * step.norm())
        error = (loss_rounding(w.dtype, before, after) + _rounding(w) * reach) / half
        if not math.isfinite(value):
            raise InputError("the loss or its gradient at an end of the step is not finite (NaN or infinity)")
        if error <= ENOUGH * abs(value):
            return Smoothness(value, error, "differences", cost, mode)
        bracket = value, error
        cost += Cost(gradients=1 + int(gradient_next is None))
        following = objective.gradient(w_next) if gradient_next is None else gradient_next
        value, error, largest = _by_gradients(objective, w, step, gradient, following.double(), length)
        error += (_rounding(w) + _lost(w, losses)) * largest + _beyond(value, bracket)
        if math.isfinite(value) and error <= GOOD * abs(value):
            return Smoothness(value, error, "gradients", cost, mode)

    nodes, weights = (each.tolist() for each in scipy.special.roots_jacobi(NODES, 1, 0))
    curvatures, largest = [], 0.0
    for x in nodes:
        point = (w.double() + (x + 1) / 2 * step).to(w.dtype)
        product = objective.hvp(step.to(w.dtype), point).double()
        curvatures.append(float(product @ step) / length**2)
        largest = max(largest, float(product.norm() * step.norm()) / length**2)
    value = sum(weight * c for weight, c in zip(weights, curvatures, strict=True)) / 2
    error = abs(value - _through_outer_nodes(nodes, curvatures)) + (_rounding(w) + _lost(w, losses)) * largest
    error += _beyond(value, bracket)
    if not math.isfinite(value):
        raise InputError("a Hessian product on the segment of the step is not finite (NaN or infinity)")
    return Smoothness(value, error, "products", cost + Cost(products=NODES), mode)


def _by_gradients(
    objective: Smooth,
    w: Float[Tensor, " P"],
    step: Float[Tensor, " P"],
    gradient: Float[Tensor, " P"],
    gradient_next: Float[Tensor, " P"],
    length: float,
) -> tuple[float, float, float]:
    """The directional smoothness by Simpson's rule on gradients, its error but for rounding, and what is rounded."""
    middle = objective.gradient((w.double() + step / 2).to(w.dtype)).double()
    rise, half_rise = (float((later - gradient) @ step) for later in (gradient_next, middle))
    value, ends = (4 * half_rise + rise) / (3 * length**2), rise / length**2
    norm = max(float(each.norm()) for each in (gradient, middle, gradient_next))
    return value, abs(value - ends), norm * float(step.norm()) * 10 / 3 / length**2


def _lost(w: Tensor, losses: list[float]) -> float:
    """The share of a gradient or a product that is lost where losses are as small as what cancels in them."""
    return min(OF_ONE * torch.finfo(w.dtype).eps / max(min(map(abs, losses), default=1.0), 1e-300), CANCELLED)


def _beyond(value: float, bracket: tuple[float, float] | None) -> float:
    """By how much a value misses what differences of losses show, beyond their rounding."""
    return 0.0 if bracket is None else max(0.0, abs(value - bracket[0]) - bracket[1])


def loss_rounding(dtype: torch.dtype, *losses: float) -> float:
    """By how much rounding may move a sum of these losses: relative to them, and to 1."""
    return torch.finfo(dtype).eps * (ROUNDINGS * sum(map(abs, losses)) + OF_ONE)


def _number(loss: Tensor | float) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _rounding(w: Tensor) -> float:
    return ROUNDINGS * torch.finfo(w.dtype).eps


def _through_outer_nodes(nodes: list[float], values: list[float]) -> float:
    """The mean, under weight (1 - x)/2 on [-1, 1], of the line through the first and the last value."""
    slope = (values[-1] - values[0]) / (nodes[-1] - nodes[0])
    return values[0] + slope * (-1 / 3 - nodes[0])
