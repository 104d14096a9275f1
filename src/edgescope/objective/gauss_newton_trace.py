"""The trace of the Gauss-Newton matrix, exactly: from the derivatives of every output of every sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.objective.batches import Batch, leading_size
from edgescope.objective.checks import checked_supervised
from edgescope.objective.layout import Tensors
from edgescope.objective.objective import Objective
from edgescope.objective.samples import TOGETHER, of_each, refuse_other_mean, separable


def gauss_newton_trace(objective: Objective) -> float:
    """tr G of G = mean_i J_i^T B_i J_i at the model's own parameters, J_i (C, P) the derivative of the outputs of
    sample i and B_i (C, C) the curvature of the criterion there; the l2 term included.

    Where the criterion is stationary in every output (interpolation, for a squared loss) it is the trace of the
    Hessian: 2/n sum ||grad f(x_i)||^2 for the mean of (f - y)^2 (Wen, Li, Ma 2023, arXiv 2307.11007, trace lemma).

    Raises :class:`NotKnownError` where the loss is not a mean over samples. Cost: n C backward passes of single
    samples, counted as C gradients, at most 8 MiB of derivatives at a time.
    """
    problem, point = separable(objective), objective._at(None)
    supervised = checked_supervised(objective.loss_fn, "a Gauss-Newton trace")
    total, outputs = 0.0, 1

    def trace_of_one(tensors: Tensors, one: Batch) -> Float[Tensor, ""]:
        def of_model(tensors: Tensors) -> Tensor:
            return problem.call(tensors, point.constants, one, supervised.outputs)

        z = of_model(tensors)
        rows = torch.cat([piece.reshape(z.numel(), -1) for piece in torch.func.jacrev(of_model)(tensors)], 1)
        slope = torch.func.grad(lambda place: supervised.criterion_of(place, one))
        curvature = torch.func.jacrev(slope)(z).reshape(len(rows), len(rows))
        return (curvature * (rows @ rows.T)).sum()

    for chunk in problem.chunks():
        with torch.no_grad():
            outputs = problem.call(point.tensors, point.constants, chunk.batch, supervised.outputs)[0].numel()
        size = leading_size(chunk.batch)
        each = max(1, TOGETHER // (point.flat.element_size() * objective.size * outputs))
        for piece in problem.batches.pieces(chunk.batch, each):
            with objective._curvature.ready(point):
                losses = of_each(problem, point, piece, lambda one: one).detach().double()
                refuse_other_mean(losses, problem.loss_of(point.tensors, point.constants, piece).detach())
                traces = of_each(problem, point, piece, lambda one: one, trace_of_one)
            total += chunk.share * float(traces.detach().double().sum()) / size
    objective.meter.count(gradients=outputs)
    return total + objective.l2 * objective.size


def residual_share(objective: Objective) -> tuple[float, int]:
    """How far from interpolation, and how many outputs a sample has.

    The slope of the criterion in the outputs, over that at outputs of zero: roots of the sums of squares over all
    outputs of all samples; 0 at interpolation. Cost: one loss.
    """
    supervised = checked_supervised(objective.loss_fn, "a residual")
    problem, point = separable(objective), objective._at(None)
    squares, count = torch.zeros(2, dtype=torch.float64, device="cpu"), 0
    with objective._curvature.ready(point, derivatives=False):
        for chunk in problem.chunks():
            with torch.no_grad():
                found = problem.call(point.tensors, point.constants, chunk.batch, supervised.outputs)
            count = max(count, found[0].numel())
            for number, outputs in enumerate((found, torch.zeros_like(found))):
                with torch.enable_grad():
                    place = outputs.detach().requires_grad_()
                    (slope,) = torch.autograd.grad(supervised.criterion_of(place, chunk.batch), place)
                squares[number] += (chunk.share * slope.double()).square().sum().cpu()
    objective.meter.count(losses=1)
    here, at_zero = squares.sqrt().tolist()
    return (here / at_zero if at_zero else float("inf")), count
