"""Gauss-Newton products: the curvature of the criterion, carried back and forth through the model's derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.objective.backward import carried_back
from edgescope.objective.batches import Batch, Chunk
from edgescope.objective.faults import refuse_not_finite
from edgescope.objective.layout import Tensors
from edgescope.objective.problem import Point, TrainingProblem


class GaussNewtonGraph:
    """The graphs of one chunk's outputs and of its criterion, from which any number of products can be drawn.

    The forward product J v comes from differentiating the backward product u -> J^T u, which is linear in u, so that
    every model with a gradient will do (Pearlmutter 1994; Schraudolph 2002).
    """

    def __init__(self, outputs: Tensor, criterion: Callable[[Tensor], Tensor], tensors: Tensors) -> None:
        self.outputs, self.tensors = outputs, tensors
        # Not zeros, where the backward formula of logcumsumexp takes a logarithm of the probe and is no longer linear.
        self.probe = torch.ones_like(outputs, requires_grad=True)
        back = carried_back([outputs], tensors, [self.probe], create_graph=True, materialize_grads=True)
        self.back = [(i, b) for i, b in enumerate(back) if b.requires_grad]
        self.leaf = outputs.detach().requires_grad_()
        (self.slope,) = torch.autograd.grad(criterion(self.leaf), self.leaf, create_graph=True)

    def product(self, vector: Tensors) -> Tensors:
        if not self.slope.requires_grad or not self.back:
            return [torch.zeros_like(v) for v in vector]
        return self.backward(self.curved(self.forward(vector)))

    def forward(self, vector: Tensors) -> Tensor:
        """J v, in the shape of the outputs."""
        if not self.back:
            return torch.zeros_like(self.probe)
        roots, vectors = [b for _, b in self.back], [vector[i] for i, _ in self.back]
        return carried_back(roots, [self.probe], vectors, materialize_grads=True)[0]

    def curved(self, forward: Tensor) -> Tensor:
        """The curvature of the criterion times a change of the outputs."""
        if not self.slope.requires_grad:
            return torch.zeros_like(forward)
        return carried_back([self.slope], [self.leaf], [forward], materialize_grads=True)[0]

    def backward(self, curved: Tensor) -> Tensors:
        """J^T u."""
        return carried_back([self.outputs], self.tensors, [curved], materialize_grads=True)


def outputs_of(supervised: Any) -> Callable[[nn.Module, Any], Tensor]:
    """The outputs of a model in whose place the Gauss-Newton matrix is a product of a Jacobian, its transpose, and the
    curvature of the criterion: those of the model, or what its last layer is applied to, with that layer's parameters.
    """
    function: Callable[[nn.Module, Any], Tensor] = getattr(supervised, "before_head", supervised.outputs)
    return function


def criterion_at(supervised: Any, z: Tensor, batch: Batch, at: Tensor) -> Tensor:
    """The criterion of these outputs; ``at`` are those of the model as it is."""
    after_head = getattr(supervised, "criterion_after_head", None)
    found: Tensor = supervised.criterion_of(z, batch) if after_head is None else after_head(z, batch, at)
    return found


def gauss_newton_products(
    problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"], supervised: Any, keep: bool
) -> Float[Tensor, "k P"]:
    """Products J^T (d2 criterion) J v for the rows v, summed over all chunks; ``keep``: graphs stay at the point.

    Raises :class:`NotDifferentiableError` where the gradient or the Hessian does not exist at the point.
    """
    known = point.output_graphs is not None  # a product was finite here before, and the model is not set for evaluation
    result = torch.zeros_like(rows)
    for graph in _graphs(problem, point, supervised, keep):
        for row, total in zip(rows, result, strict=True):
            total += problem.layout.join(graph.product(problem.layout.split(row)))
        del graph  # before that of the next chunk is built
    if not known and not math.isfinite(float(result.sum())):
        point.output_graphs = None
        refuse_not_finite(problem, point, rows)
    return result


def _graphs(problem: TrainingProblem, point: Point, supervised: Any, keep: bool) -> Iterator[GaussNewtonGraph]:
    if point.output_graphs is not None:
        yield from point.output_graphs
        return
    kept: list[GaussNewtonGraph] = []
    for chunk in problem.chunks():
        outputs = problem.call(point.tensors, point.constants, chunk.batch, outputs_of(supervised))

        at = outputs.detach()

        def criterion(z: Tensor, chunk: Chunk = chunk, at: Tensor = at) -> Tensor:
            return chunk.share * criterion_at(supervised, z, chunk.batch, at)

        graph = GaussNewtonGraph(outputs, criterion, point.tensors)
        if keep:
            kept.append(graph)
        held = [graph]
        del graph, outputs, at, criterion
        yield held.pop()
    if keep:
        point.output_graphs = kept
