"""Comparing Gauss-Newton products with differences of outputs, since some are wrong without an error."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import EdgescopeError, NotDifferentiableError
from edgescope.objective.differences import Verdict, judge
from edgescope.objective.faults import fault_at
from edgescope.objective.few_samples import point_at, reduced
from edgescope.objective.gauss_newton import GaussNewtonGraph, criterion_at, outputs_of
from edgescope.objective.problem import A_LOSS, A_PRODUCT, Point, TrainingProblem
from edgescope.objective.second_order import BESIDE, look_at, suspects_of


def refuse_wrong_gauss_newton(problem: TrainingProblem, point: Point, supervised: Any, wide: bool = True) -> bool:
    """Refuse a Gauss-Newton product J^T B J v that is not made of the changes of outputs and of the criterion's slope.

    J v is compared with central differences of the outputs, B with those of the slope, and J^T with J, along a random
    direction, in float64 on a few samples (in the precision of the problem where there is no memory for that: not
    ``wide``); where they stay open (kinks) the same is done beside the point. Returns
    whether that could be done, which it cannot where something is not finite. Cost: some eight losses and two gradients
    of 32 samples.
    """
    for dtype in (torch.float64, problem.dtype) if wide else (problem.dtype,):
        try:
            small, place = reduced(problem, point, dtype)
            verdict = _gauss_newton_verdict(small, place, supervised)
            if verdict == "open":
                away = torch.nn.functional.normalize(small.masked(torch.randn_like(place.flat)), dim=0)
                length = BESIDE * max(1.0, float(place.flat.norm()))
                verdict = _gauss_newton_verdict(
                    small, point_at(small, place.flat + length * away, place.constants), supervised
                )
            break
        except (RuntimeError, TypeError, ValueError, EdgescopeError) as error:
            if dtype == problem.dtype:
                raise fault_at(point, problem, error) from error
    if verdict is None or verdict == "agrees":
        return verdict is not None
    (chunk,) = small.batches.chunks()
    suspects = suspects_of(small.loss_of(place.tensors, place.constants, chunk.batch))
    raise NotDifferentiableError(
        f"the Gauss-Newton product of this model does not match finite differences of its outputs{look_at(suspects)}",
        expected="operations whose derivative can be differentiated",
        hint="another operation in their place, or check=False if this is meant",
    )


def _gauss_newton_verdict(problem: TrainingProblem, point: Point, supervised: Any) -> Verdict | None:
    (chunk,) = problem.batches.chunks()
    layout, length = problem.layout, max(1.0, float(point.flat.norm()))
    eps = torch.finfo(point.flat.dtype).eps

    def outputs(flat: Float[Tensor, " P"], tensors: Any = None) -> Tensor:
        tensors = layout.split(flat) if tensors is None else tensors
        return problem.call(tensors, point.constants, chunk.batch, outputs_of(supervised))

    def criterion(z: Tensor) -> Tensor:
        return criterion_at(supervised, z, chunk.batch, at)

    def slope(z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        return torch.autograd.grad(criterion(leaf), leaf, materialize_grads=True)[0].reshape(-1)

    with torch.no_grad():
        at = outputs(point.flat, point.tensors)
    graph = GaussNewtonGraph(outputs(point.flat, point.tensors), criterion, point.tensors)
    problem.count_preparation(1 - A_LOSS + A_PRODUCT)
    direction = torch.nn.functional.normalize(problem.masked(torch.randn_like(point.flat)), dim=0)
    forward = graph.forward(layout.split(direction))
    curved = graph.curved(forward)
    back = layout.join(graph.backward(curved))
    z = graph.outputs.detach()
    if not all(bool(t.isfinite().all()) for t in (z, forward, curved, back)):
        return None
    all_of = [slice(None)]
    with torch.no_grad():
        first = judge(
            lambda t: outputs(point.flat + t * direction).reshape(-1),
            forward.reshape(-1),
            all_of,
            length=length,
            rounding=eps * float(z.norm()),
        )
    second = judge(
        lambda t: slope(z + t * forward),
        curved.reshape(-1),
        all_of,
        length=max(1.0, float(z.norm())) / max(float(forward.norm()), 1e-300),
        rounding=eps * float(slope(z).norm()),
    )
    left, right = float((curved * forward).sum()), float(back @ direction)
    scale = float(curved.norm() * forward.norm()) + float(back.norm())
    if abs(left - right) > max(1e-6, 2e4 * eps) * scale:
        return "differs"
    return next((verdict for verdict in ("differs", "open") if verdict in (first, second)), "agrees")
