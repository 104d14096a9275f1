"""Comparing second derivatives with differences of gradients, since some are wrong without an error."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from edgescope.errors import NotDifferentiableError
from edgescope.objective.differences import STEPS, Verdict, judge
from edgescope.objective.faults import fault_at
from edgescope.objective.faults import named_fault as named_fault
from edgescope.objective.few_samples import point_at, reduced
from edgescope.objective.operations import nodes_of, operation_of
from edgescope.objective.paths import GradientGraph
from edgescope.objective.problem import A_LOSS, A_PRODUCT, Point, TrainingProblem

BESIDE = 1e-3
"""How far beside the parameters, relative to them, a second comparison is made: off any kink that they lie on, and
further than all but the largest of the steps reaches."""

LARGE = 2**25
"""Parameters above which a comparison is first made in the precision of the problem: in double precision it would hold
some ten vectors of twice the size."""

_STEP = 1e-3  # of the length of the point: where quotients in single precision are right to some four digits
_ERRORS = 3  # what a part of a product may be off, in differences of its quotients
_SHARE = 1e-2  # of a product or of a part of it: what may differ in single precision

SUSPECTS = (
    "CholeskyInverse",  # of a matrix that is not triangular even the gradient is wrong
    "CholeskySolve",  # the same
    "LinalgDet",  # of a singular matrix even the gradient is zero
    "WeightNormInterface",  # takes the norms as constant; computed by formula where a module is known to use it
)
"""Operations of PyTorch that were found wrong in double backward, everywhere or at special points. They are named where
a comparison fails, and never refused without one."""


def refuse_wrong_hessian(problem: TrainingProblem, point: Point, wide: bool = True) -> bool:
    """Refuse a loss whose second derivative, by double backward, is not the change of its gradient.

    Some operations have a wrong one without any error: custom autograd functions with ``once_differentiable``, NumPy
    or detached tensors in their backward, and a few of PyTorch's own, some of them at special points only, such as the
    determinant of a singular matrix. So products with random directions are compared with central differences of the
    gradient, in float64, on a few samples, for each parameter tensor. Above 2^25 parameters, and where there is no
    memory for float64 (not ``wide``), they are compared in the precision of the problem first, where that settles it
    for each tensor to a hundredth; in little memory that precision also decides what it does not settle. A network may
    lie exactly on a kink (a ReLU whose inputs are all zero, under a bias of zero), where the gradient jumps and the two
    differ for no fault of any operation: then the comparison beside the point decides. Where the loss itself jumps
    there is no derivative.

    Returns whether that could be done, which it cannot where gradient or Hessian are not finite. Cost: some five
    gradients of at most 32 samples (:func:`few_rows`), and up to 30 before something is refused.
    """
    rough = problem.dtype != torch.float64 and (problem.layout.size > LARGE or not wide)
    if rough and _agrees_closely(problem, point):
        return True
    comparison: _Comparison | None = None
    try:
        comparison = _Comparison(*reduced(problem, point, torch.float64 if wide else problem.dtype))
        verdict = comparison.verdict()
    except (RuntimeError, TypeError, ValueError, NotDifferentiableError):  # a model with a precision of its own
        try:
            comparison = _Comparison(*reduced(problem, point, problem.dtype))
            verdict = comparison.verdict()
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            raise fault_at(point, problem, error) from error
    if verdict is None:
        return False
    if verdict != "agrees":
        comparison.refuse(verdict)
    return True


def _agrees_closely(problem: TrainingProblem, point: Point) -> bool:
    try:
        return _Comparison(*reduced(problem, point, problem.dtype)).agrees_closely()
    except (RuntimeError, NotImplementedError, MemoryError, NotDifferentiableError):
        return False  # the comparison that follows says why


class _Comparison:
    """Products of double backward beside differences of gradients, at a point of a small problem."""

    def __init__(self, problem: TrainingProblem, point: Point) -> None:
        self.problem, self.flat, self.constants = problem, point.flat, point.constants
        self.length = max(1.0, float(self.flat.norm()))
        self.parts = [slot.slice for slot in problem.layout]
        loss, _ = self.loss(self.flat)
        self.size = float(self.gradient(self.flat).norm())
        # A gradient that cancels to zero has the rounding of what it cancels from.
        self.scale = max(self.size, abs(float(loss.detach())) / self.length)

    def loss(self, place: Float[Tensor, " P"]) -> tuple[Tensor, list[Tensor]]:
        point = point_at(self.problem, place, self.constants)
        (chunk,) = self.problem.batches.chunks()
        return self.problem.loss_of(point.tensors, self.constants, chunk.batch), point.tensors

    def gradient(self, place: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        loss, tensors = self.loss(place)
        del place  # of the vectors of the size of the model as few as can be are held at once
        found = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
        del loss, tensors
        self.problem.count_preparation(1 - A_LOSS)
        return self.problem.layout.join(found)

    def verdict(self, place: Float[Tensor, " P"] | None = None) -> Verdict | None:
        """At the point, or at another place; None where something is not finite."""
        place = self.flat if place is None else place
        if not math.isfinite(self.size):
            return None
        for _ in range(2):
            direction = self._direction()
            product = self._product(place, direction)
            if not bool(product.isfinite().all()):
                return None
            verdict = judge(
                lambda t, d=direction: self.gradient(torch.add(place, d, alpha=t)),  # type: ignore[misc]
                product,
                self.parts,
                length=self.length,
                rounding=torch.finfo(place.dtype).eps * self.scale,
            )
            if verdict != "open":
                return verdict
        return "open"

    def agrees_closely(self) -> bool:
        """Whether a product agrees, in each tensor, with quotients at one step and at half of it; else nothing is said.

        A tensor whose quotients rounding hides (biases of keys, whose gradient is zero) agrees where the product is
        about as near to them as they are to each other.
        """
        direction, step = self._direction(), _STEP * self.length
        product = self._product(self.flat, direction)
        if not math.isfinite(self.size) or not bool(product.isfinite().all()):
            return False

        def quotient(step: float) -> Tensor:
            ahead, behind = (self.gradient(torch.add(self.flat, direction, alpha=t)) for t in (step, -step))
            return ahead.sub_(behind).div_(2 * step)

        far = quotient(step)
        near = quotient(step / 2)
        if float((far - near).norm()) > _SHARE * float(near.norm()):
            return False
        for part in self.parts:
            size, error, off = (
                float(v.norm()) for v in (near[part], far[part] - near[part], product[part] - near[part])
            )
            if off > max(_SHARE * size, _ERRORS * error):
                return False
        return True

    def _product(self, place: Float[Tensor, " P"], direction: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        found = GradientGraph(*self.loss(place)).product(self.problem.layout.split(direction))
        self.problem.count_preparation(1 - A_LOSS + A_PRODUCT)
        return self.problem.masked(self.problem.layout.join(found))

    def refuse(self, verdict: Verdict) -> None:
        """Refuse what does not agree at the point, unless it lies on a kink and agrees beside it."""
        if verdict == "open":
            self._refuse_jump()
            if self.verdict(self.flat + BESIDE * self.length * self._direction()) == "agrees":
                return
        suspects = suspects_of(self.loss(self.flat)[0])
        raise NotDifferentiableError(
            f"the second derivative of this loss does not match finite differences of its gradient{look_at(suspects)}",
            expected="operations that can be differentiated twice, without detach() or NumPy in their backward",
            hint="another operation in their place, or check=False if this is meant",
        )

    def _refuse_jump(self) -> None:
        """Refuse a loss that is not continuous here, which no gradient tells."""
        step, direction = STEPS[0] * self.length, self._direction()
        here = float(self.loss(self.flat)[0].detach())
        for sign in (1, -1):
            place = self.flat + sign * step * direction
            there = float(self.loss(place)[0].detach())
            slope = max(self.size, float(self.gradient(place).norm()))
            rounding = 100 * torch.finfo(place.dtype).eps * max(abs(here), abs(there))
            if abs(there - here) > 10 * step * slope + rounding:
                raise NotDifferentiableError(
                    f"the loss jumps at these parameters, by {abs(there - here):.3g} over a step of {step:.1g}",
                    expected="a continuous loss",
                    hint="other parameters, another operation in the place of what jumps (rounding, comparisons), or"
                    " check=False if this is meant",
                )

    def _direction(self) -> Float[Tensor, " P"]:
        return torch.nn.functional.normalize(self.problem.masked(torch.randn_like(self.flat)), dim=0)


def suspects_of(loss: Tensor) -> list[str]:
    """Operations in the graph of ``loss`` that are written in Python, or known to be wrong."""
    nodes = nodes_of([loss])
    return sorted({operation_of(n) for n in nodes if isinstance(n, BackwardCFunction) or n.name().startswith(SUSPECTS)})


def look_at(suspects: list[str]) -> str:
    return f" (look at {', '.join(suspects)})" if suspects else ""
