"""What has no second derivative, or a wrong one: operations that fail are named, silent ones are caught."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils import _pytree as pytree

from edgescope.errors import EdgescopeError, NotDifferentiableError
from edgescope.objective.batches import leading_size, piece_of
from edgescope.objective.paths import GradientGraph
from edgescope.objective.problem import Point, Problem

SAMPLES = 32
"""How many samples the comparison with difference quotients takes."""

STEPS = (1e-7, 1e-5, 1e-3)
"""Sizes of the difference quotients, relative to the parameters: the smallest steps over no kink (ReLU), the largest is
above the rounding of models that compute in single precision inside, whatever they are given."""

BESIDE = 1e-3
"""How far beside the parameters, relative to them, a second comparison is made: off any kink that they lie on, and
further than all but the largest of the steps reaches."""

WRONG = ("LinalgHouseholderProduct",)
"""Operations of PyTorch whose second derivative was found wrong (pytorch issue 196698)."""


def named_fault(error: Exception) -> EdgescopeError:
    """A failed derivative as one line that names the operation without a second derivative."""
    if isinstance(error, EdgescopeError):
        return error
    text = str(error)
    match = (
        re.search(r"derivative for '?(?:aten::)?_?(\w+?)(?:_backward|Backward\d*)?'? is not implemented", text)
        or re.search(r"'(\w+?)(?:Backward\w*)?' .*(?:not differentiable|once_differentiable)", text)
        or re.search(r"(\w+?)Backward\d*", text)
    )
    if "once_differentiable" in text:
        what = "a custom autograd function is marked once_differentiable, so it has no second derivative"
    elif match:
        what = f"the operation '{match.group(1)}' has no second derivative in PyTorch"
    else:
        what = f"the second derivative failed ({text.splitlines()[0] if text else type(error).__name__})"
    return NotDifferentiableError(what, hint="another operation in its place, or freezing what lies before it")


def refuse_wrong_hessian(problem: Problem, point: Point) -> bool:
    """Refuse a loss whose second derivative, by double backward, is not the change of its gradient.

    Some operations have a wrong one without any error: custom autograd functions with ``once_differentiable``, NumPy
    or detached tensors in their backward, and a few of PyTorch's own. So one product with a random direction is
    compared with central differences of the gradient, in float64, on a few samples. A network may lie exactly on a
    kink (a ReLU whose inputs are all zero, under a bias of zero), where the gradient jumps and the two differ for no
    fault of any operation: then the comparison beside the point decides. Returns whether that could be
    done, which it cannot where the gradient is not finite. Cost: some five gradients of 32 samples.
    """
    try:
        verdict = _compared(problem, point, torch.float64)
    except (RuntimeError, TypeError, ValueError):  # a model with a precision of its own
        try:
            verdict = _compared(problem, point, problem.dtype)
        except (RuntimeError, NotImplementedError) as error:
            raise named_fault(error) from error
    if isinstance(verdict, bool):
        return verdict
    blamed = f" (look at {', '.join(verdict)})" if verdict else ""
    raise NotDifferentiableError(
        f"the second derivative of this loss is not the change of its gradient{blamed}",
        expected="operations that can be differentiated twice, without detach() or NumPy in their backward",
        hint="another operation in their place, or check=False if this is meant",
    )


def _compared(problem: Problem, point: Point, dtype: torch.dtype) -> bool | list[str]:
    """True where product and differences agree, False where there is nothing to compare, else the suspects."""

    def convert(leaf: object) -> object:
        return leaf.detach().to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    batch = problem.batches.heaviest
    batch = pytree.tree_map(convert, piece_of(batch, 0, min(leading_size(batch), SAMPLES)))
    constants = {name: c.to(dtype) if c.is_floating_point() else c for name, c in point.constants.items()}
    flat, layout = point.flat.to(dtype), problem.layout

    def loss_at(place: Tensor) -> tuple[Tensor, list[Tensor]]:
        tensors = [piece.clone().requires_grad_() for piece in layout.split(place)]
        return problem.loss_of(tensors, constants, batch), tensors

    def gradient_at(place: Tensor) -> Tensor:
        loss, tensors = loss_at(place)
        return layout.join(torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True))

    length = max(1.0, float(flat.norm()))
    size = float(gradient_at(flat).norm())
    if not math.isfinite(size):
        return False

    def agrees(place: Tensor) -> bool:
        graph = GradientGraph(*loss_at(place))
        for _ in range(2):
            direction = torch.nn.functional.normalize(torch.randn_like(flat), dim=0)
            product = layout.join(graph.product(layout.split(direction)))
            for step in (relative * length for relative in STEPS):
                quotient = (gradient_at(place + step * direction) - gradient_at(place - step * direction)) / (2 * step)
                rounding = 100 * torch.finfo(dtype).eps * size / step
                if float((product - quotient).norm()) <= 1e-2 * float(quotient.norm()) + rounding:
                    return True
        return False

    if agrees(flat):
        return True
    suspects = _suspects(loss_at(flat)[0])
    beside = flat + BESIDE * length * torch.nn.functional.normalize(torch.randn_like(flat), dim=0)
    if any(
        name.startswith(WRONG) for name in suspects
    ):  # maybe so at special points only, such as where networks start
        return suspects
    return agrees(beside) or suspects


def _suspects(loss: Tensor) -> list[str]:
    """Operations in the graph of ``loss`` that are written in Python, or known to be wrong."""
    names: set[str] = set()
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names.add(f"the custom autograd function {type(node).__name__.removesuffix('Backward')}")
        elif node.name().startswith(WRONG):
            names.add(node.name())
        waiting.extend(following for following, _ in node.next_functions)
    return sorted(names)
