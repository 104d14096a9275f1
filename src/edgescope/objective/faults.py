"""Error messages for derivatives that fail or are not finite."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import EdgescopeError, NotDifferentiableError
from edgescope.memory import out_of_memory_error
from edgescope.objective.batches import Chunk
from edgescope.objective.layout import Tensors
from edgescope.objective.operations import not_finite, operation_that_failed
from edgescope.objective.problem import Point, TrainingProblem


def named_fault(error: Exception, operation: Callable[[], str | None] = lambda: None) -> EdgescopeError:
    """A failed derivative as one line that names the operation without a second derivative.

    ``operation`` is asked for it where the text of the error does not tell.
    """
    if isinstance(error, EdgescopeError):
        return error
    full = out_of_memory_error(error)
    if full is not None:
        return full
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
        reason, known = text.splitlines()[0] if text else type(error).__name__, operation()
        what = f"the second derivative {f'of {known} ' if known else ''}failed ({reason})"
    return NotDifferentiableError(what, hint="another operation in its place, or freezing what lies before it")


def fault_at(point: Point, problem: TrainingProblem, error: Exception) -> EdgescopeError:
    """:func:`named_fault` of a derivative at this point; where the text does not tell, it is taken again to see."""

    def operation() -> str | None:
        vector = problem.layout.split(torch.ones_like(point.flat))
        found = (operation_that_failed(loss, point.tensors, vector) for loss in _losses(problem, point))
        return next(filter(None, found), None)

    return named_fault(error, operation)


def refuse_not_finite(problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> None:
    """Say why products with ``rows`` at this point are not finite, unless the vectors are so long that they overflow.

    Raises :class:`NotDifferentiableError`, which names the operation whose derivative is not finite, and
    :class:`InputError` where the loss is not. Not where parameters are not finite, nor where the data are shared by
    the processes of a group, of which none must end while the others wait for it.
    """
    if problem.total != problem.batches.samples or not bool(point.flat.isfinite().all()):
        return
    for loss in _losses(problem, point):
        for row in rows:
            length = float(torch.linalg.vector_norm(row, dtype=torch.float64))
            if not 0 < length < float("inf"):
                continue
            unit = problem.layout.split((row.double() / length).to(row))
            reason = not_finite(loss, point.tensors, unit)
            if reason is not None:
                raise reason


def _losses(problem: TrainingProblem, point: Point) -> Iterator[Callable[[Tensors], Tensor]]:
    """The loss of each chunk as a function of the parameter tensors."""
    for chunk in problem.chunks():

        def loss(tensors: Tensors, chunk: Chunk = chunk) -> Tensor:
            return problem.part(dataclasses.replace(point, tensors=list(tensors)), chunk)

        yield loss
