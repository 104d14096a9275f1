"""Hessian products by central differences of gradients, which need first derivatives only, each with its error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotDifferentiableError
from edgescope.linalg.product_errors import ProductErrors
from edgescope.objective.few_samples import point_at, reduced
from edgescope.objective.operations import nodes_of, operation_of
from edgescope.objective.paths import Path
from edgescope.objective.problem import A_LOSS, Point, TrainingProblem

RATIO = 4
"""Of the two steps of a product."""

ATTEMPTS = 4
"""Pairs of steps that are tried at most, each shorter than the one before."""

GOAL = 1e-4
"""Of a product: the error with which it is good enough."""

COARSE = 1e-2
"""Of a product: the error above which a shorter step is tried even if rounding seems to make it."""

# The error of D(h) is c h^2, so that D(h / 4) + (D(h / 4) - D(h)) / 15 has one of fourth order.
_EXTRAPOLATION = 1 / (RATIO**2 - 1)
# With f(h) = (g(h) + g(-h)) / 2 - g(0), the vector f(h) - 16 f(h / 4) is zero up to fourth order. What is left of it is
# rounding: of independent errors s of the four gradients it is sqrt(128.5) s, where the quotient's is 3.02 s / h. Four
# times that: it is estimated from as few gradients as the product, and of some 940 products one was 3 times as far off.
_ROUNDING = 4 * 3.02 / 128.5**0.5

KINKED = (
    *("Relu", "LeakyRelu", "PreluKernel", "Rrelu", "Threshold", "Hardtanh", "Hardswish", "Hardsigmoid"),
    *("Softshrink", "Hardshrink", "Clamp", "Abs", "Max", "Min", "Amax", "Amin", "AdaptiveMax", "FractionalMax"),
    *("Sort", "Topk", "Kthvalue", "Median", "Nanmedian", "MultiMarginLoss", "MultilabelMarginLoss"),
)
"""Operations whose first derivative jumps: their curvature is zero, or lies in the jumps."""


class Differences(Path, ProductErrors):
    """Products H v from gradients at w + h v, w - h v, w + h v / 4 and w - h v / 4, with v scaled to unit norm.

    The quotients of both steps are extrapolated (Richardson). The error is measured for each product, as a vector: the
    distance of the extrapolated product from the quotient of the shorter step, which mostly is much more than its
    error, plus the rounding of the gradients, which the even parts of the same gradients show. Where the first
    dominates and is more than 1e-4 of the product, or both are more than 1% of it, shorter steps are tried, up to three
    times, and the best is kept; all depends on the point and the vector alone. Cost: four gradients a product, and two
    more for each shorter step.
    """

    name = "difference"

    def _products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        return self.over_processes(problem, point, rows, lambda gradient: gradient)

    def over_processes(
        self,
        problem: TrainingProblem,
        point: Point,
        rows: Float[Tensor, "k P"],
        summed: Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]],
    ) -> Float[Tensor, "k P"]:
        """The products over the data of all processes, whose gradients ``summed`` adds up: the same on each of them."""

        def gradient(flat: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
            return summed(problem.gradient(point_at(problem, flat, point.constants))[1])

        flat = point.flat
        if point.gradient is None:
            point.loss, point.gradient = problem.gradient(point)
        here = summed(point.gradient)
        length = _norm(flat) or 1.0
        found, errors = torch.zeros_like(rows), torch.zeros_like(rows)
        for number, row in enumerate(rows):
            size = _norm(row)
            if not size:
                continue
            direction = (row.double() / size).to(row.dtype)
            product, error = _product(gradient, here, flat, direction, first_step(flat.dtype) * length)
            self.measured.append((_norm(error), _norm(product)))
            found[number], errors[number] = product * size, error * size
        self.errors = errors
        return found


def first_step(dtype: torch.dtype) -> float:
    """The longest step, relative to the norm of the parameters."""
    return float(torch.finfo(dtype).eps) ** 0.4


def _product(
    gradient: Callable[[Tensor], Tensor], here: Tensor, flat: Tensor, direction: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """The product with a unit vector, and its error."""

    def parts(step: float) -> tuple[Tensor, Tensor]:
        """The difference quotient, and the even part of the gradient along the line."""
        right, left = gradient(flat + step * direction), gradient(flat - step * direction)
        return (right - left).div_(2 * step), (right + left).div_(2).sub_(here)

    far, far_even = parts(step)
    best: tuple[Tensor, Tensor] | None = None
    least = float("inf")
    for attempt in range(ATTEMPTS):
        near, near_even = parts(step / RATIO)
        curved = (near - far) * _EXTRAPOLATION
        rounding = (far_even - RATIO**2 * near_even) * (_ROUNDING / step)
        product, error = near + curved, curved + rounding
        off = _norm(error)
        better = off < least
        if better:
            best, least = (product, error), off
        if off <= GOAL * _norm(product):
            break
        # A fourth derivative looks like rounding, which grows with shorter steps, while it falls.
        rounded = _norm(curved) <= _norm(rounding)
        if rounded and (off <= COARSE * _norm(product) or (attempt and not better)):
            break
        far, far_even, step = near, near_even, step / RATIO
    assert best is not None
    return best


def refuse_kinks(problem: TrainingProblem, point: Point) -> None:
    """Refuse a loss with operations that are linear in pieces, of which differences of gradients tell nothing.

    A step goes over kinks, each of which adds a jump of the gradient divided by the step, where the Hessian has
    nothing: a product of a ReLU network was three times as long as the true one. Cost: a loss on a few samples.
    """
    found = kinks_of(problem, point)
    if found:
        raise NotDifferentiableError(
            f"path='difference' is meaningless for {', '.join(found)}, whose derivative jumps",
            expected="smooth operations, such as tanh, GELU, SiLU, softplus and average pooling",
            hint="path='auto', which differentiates twice",
        )


def kinks_of(problem: TrainingProblem, point: Point) -> list[str]:
    """The operations of the loss whose derivative jumps. Cost: a loss on a few samples."""
    few, place = reduced(problem, point, problem.dtype)
    (chunk,) = few.batches.chunks()
    loss = few.loss_of(place.tensors, place.constants, chunk.batch)
    few.count_preparation(A_LOSS)
    return sorted({operation_of(node) for node in nodes_of([loss]) if _is_kinked(node)})


def _is_kinked(node: torch.autograd.graph.Node) -> bool:
    if node.name().startswith("Elu"):  # the slopes on both sides of zero: those of SELU differ
        return float(getattr(node, "_saved_alpha", 1.0)) * float(getattr(node, "_saved_input_scale", 1.0)) != 1.0
    return node.name().startswith(KINKED)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
