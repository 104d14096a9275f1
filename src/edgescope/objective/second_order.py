"""What has no second derivative, or a wrong one: operations that fail are named, silent custom functions are caught."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from edgescope.errors import EdgescopeError, NotDifferentiableError
from edgescope.objective.batches import Batch
from edgescope.objective.checks import evaluated, refuse_independent, refuse_not_finite, refuse_random
from edgescope.objective.paths import GradientGraph
from edgescope.objective.problem import Point, Problem


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


def check_loss(problem: Problem, point: Point, batch: Batch) -> None:
    """Refuse a loss on ``batch`` that is no finite scalar, does not depend on the parameters, is not deterministic, or
    has wrong second derivatives. Cost: three losses and a gradient, more where there are custom autograd functions.
    """

    def evaluate() -> Tensor:
        return problem.loss_of(point.tensors, point.constants, batch)

    loss = evaluated(evaluate)
    if not loss.requires_grad:
        refuse_independent((None,))
    names = custom_functions(loss)
    try:
        refuse_independent(torch.autograd.grad(loss, point.tensors, allow_unused=True))
    except RuntimeError as error:
        raise named_fault(error) from error
    with torch.no_grad():
        refuse_random(evaluate)
    refuse_not_finite(loss)
    if names:
        _refuse_wrong_custom(problem, point, batch, names)


def custom_functions(loss: Tensor) -> set[str]:
    """The names of the ``torch.autograd.Function`` classes, written in Python, in the graph of ``loss``."""
    names: set[str] = set()
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names.add(type(node).__name__.removesuffix("Backward"))
        waiting.extend(following for following, _ in node.next_functions)
    return names


def _refuse_wrong_custom(problem: Problem, point: Point, batch: Batch, names: set[str]) -> None:
    """Refuse custom autograd functions whose second derivative is not that of the loss.

    A backward written with ``once_differentiable``, NumPy or detached tensors gives wrong second derivatives, often
    without an error (zeros). So where there is any such function, one product with a random direction is compared
    with the difference quotient of gradients, in float64. Cost: some five gradients of the batch.
    """
    where = _as_double(point.flat), {name: _as_double(c) for name, c in point.constants.items()}
    batch = torch.utils._pytree.tree_map(lambda leaf: _as_double(leaf) if isinstance(leaf, Tensor) else leaf, batch)

    def graph(flat: Tensor) -> GradientGraph:
        tensors = [piece.clone().requires_grad_() for piece in problem.layout.split(flat)]
        return GradientGraph(problem.loss_of(tensors, where[1], batch), tensors)

    # A kink (ReLU) between the two gradients spoils a quotient: so the step is tiny, and a second direction decides.
    for _ in range(2):
        direction = torch.randn_like(where[0])
        step = 1e-7 * max(1.0, float(where[0].norm())) / float(direction.norm())
        product = problem.layout.join(graph(where[0]).product(problem.layout.split(direction)))
        ahead, behind = (graph(where[0] + sign * step * direction).gradient for sign in (1, -1))
        quotient = (problem.layout.join(ahead) - problem.layout.join(behind)) / (2 * step)
        noise = 1e-6 * float(problem.layout.join(ahead).norm()) * float(direction.norm())
        if float((product - quotient).norm()) <= 1e-2 * float(quotient.norm()) + noise:
            return
    raise NotDifferentiableError(
        f"the second derivative through the custom autograd function {', '.join(sorted(names))} is wrong"
        " (it differs from the change of the gradient)",
        expected="a backward made of differentiable torch operations",
    )


def _as_double(tensor: Tensor) -> Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor
