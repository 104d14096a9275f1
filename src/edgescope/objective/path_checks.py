"""Comparing derivative paths with double backward before they are used, since some are wrong without an error."""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import Tensor

from edgescope.errors import EdgescopeError
from edgescope.objective.few_samples import reduced
from edgescope.objective.operations import nodes_of
from edgescope.objective.paths import DoubleBackward, Path, operations_among
from edgescope.objective.problem import Point, TrainingProblem

_FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError)


def disagreement(problem: TrainingProblem, point: Point, path: Path, width: int) -> str:
    """What is wrong with products of ``width`` vectors on this path beside double backward; "" where nothing is.

    All vectors are compared on a few samples, in float64 and in the precision of the problem, and the first on all
    data. A path that builds a program for each shape is asked for products on all data alone.
    """
    if path.builds:
        return _fault(
            problem, point, path, width, compared=width, slack=_slack(*reduced(problem, point, problem.dtype))
        )
    for dtype in dict.fromkeys((torch.float64, problem.dtype)):
        few, place = reduced(problem, point, dtype)
        # A model with a precision of its own may not compute in another.
        with contextlib.nullcontext() if dtype == problem.dtype else contextlib.suppress(*_FAILURES, EdgescopeError):
            fault = _fault(few, place, path, width, compared=width, slack=_slack(few, place))
            if fault:
                return fault
    return _fault(problem, point, path, width, compared=1, slack=_slack(few, place))


def _fault(problem: TrainingProblem, point: Point, path: Path, width: int, *, compared: int, slack: float) -> str:
    rows = torch.randn(width, point.flat.numel(), dtype=point.flat.dtype, device=point.flat.device)
    place = dataclasses.replace(point, graphs=None)
    reference = DoubleBackward(keep=False).products(problem, place, rows[:compared])
    try:
        found = path.products(problem, place, rows)[:compared]
    except _FAILURES as error:
        return f"has no derivative for some operation ({(str(error) or type(error).__name__).splitlines()[0]})"
    if not bool(reference.isfinite().all()):
        return ""
    off = (found - reference).norm(dim=1) > slack * reference.norm(dim=1)
    return "gives another Hessian product than double backward" if bool(off.any()) else ""


def is_risky(problem: TrainingProblem, point: Point, path: Path) -> bool:
    """Whether an operation of the loss is known to be wrong on this path at points or shapes that may come later."""
    return bool(operations_among(*reduced(problem, point, problem.dtype), path.risky))


def _slack(problem: TrainingProblem, point: Point) -> float:
    """How far two ways to a product may be apart, as a share of it: by the coarsest precision inside of the loss."""
    chunk = next(iter(problem.chunks()))
    nodes = nodes_of([problem.loss_of(point.tensors, point.constants, chunk.batch)])
    kinds = {
        kind.dtype for node in nodes for kind in node._input_metadata if kind is not None and kind.dtype is not None
    }
    eps = max((torch.finfo(kind).eps for kind in kinds if kind.is_floating_point), default=0.0)
    return min(0.1, max(1e-6, 2e4 * eps))


def agree(found: Tensor, reference: Tensor) -> bool:
    """Whether each of the products is that of the reference, up to the rounding of the precision."""
    slack = 1e-8 if found.dtype == torch.float64 else 2e-3
    return bool(((found - reference).norm(dim=1) <= slack * reference.norm(dim=1)).all())
