"""The derivative paths: methods for the same Hessian product, none of which is always the fastest.

Not used, because they were found silently wrong or costly: the gradient of a forward derivative (wrong for layer
norms), the forward derivative of ``jacrev`` (the same), ``torch.func.linearize`` (zeros), finite differences of
gradients (inexact).
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotDifferentiableError
from edgescope.objective.backward import carried_back
from edgescope.objective.batches import Chunk
from edgescope.objective.faults import fault_at, refuse_not_finite
from edgescope.objective.formulas import Formulas
from edgescope.objective.layout import Tensors
from edgescope.objective.modules import own_deprecations_quiet
from edgescope.objective.operations import nodes_of, operation_of
from edgescope.objective.problem import A_LOSS, A_PRODUCT, Point, TrainingProblem


class Path(ABC):
    """One way to a block of Hessian products at a point, summed over all chunks.

    ``keep``: graphs stay at the point for the next product. ``batched``: all vectors of a block go through together,
    so that the memory of one chunk is needed once a vector. ``builds``: a program is built for every shape of the data.
    ``risky`` are nodes of operations for which torch is wrong here, without an error, at special points or shapes: with
    those the path is never chosen, only taken where it is asked for and right.
    """

    name: str
    keep = False
    batched = False
    builds = False
    risky: tuple[str, ...] = ()

    def products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        """The products with these rows, as rows.

        Raises :class:`NotDifferentiableError`, which names the operation, where the Hessian does not exist at the point
        or is not finite. Products with vectors so long that they overflow are infinite.
        """
        result = self._products(problem, point, rows)
        problem.count_preparation(A_PRODUCT * len(rows))
        if not point.differentiable:
            point.differentiable = math.isfinite(float(result.sum()))
            if not point.differentiable:
                point.graphs = None
                refuse_not_finite(problem, point, rows)
        return result

    @abstractmethod
    def _products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]: ...


class GradientGraph:
    """The graph of one chunk's gradient, from which any number of Hessian products can be drawn."""

    def __init__(self, loss: Tensor, tensors: Tensors) -> None:
        self.loss = loss.detach()
        self.tensors = tensors
        found = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
        self.gradient = [torch.zeros_like(t) if g is None else g.detach() for g, t in zip(found, tensors, strict=True)]
        # A gradient that does not depend on the parameters has no second derivative to draw on.
        self.roots = [(i, g) for i, g in enumerate(found) if g is not None and g.requires_grad]

    def product(self, vector: Tensors, batched: bool = False) -> Tensors:
        """The product with one vector; ``batched``: with several, stacked along a new first dimension."""
        if not self.roots:
            return [torch.zeros_like(v) for v in vector]
        roots, vectors = [g for _, g in self.roots], [vector[i] for i, _ in self.roots]
        if batched:
            found: Sequence[Tensor | None] = torch.autograd.grad(
                roots, self.tensors, vectors, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
        else:
            found = carried_back(roots, self.tensors, vectors)
        return [torch.zeros_like(v) if f is None else f for f, v in zip(found, vector, strict=True)]


class DoubleBackward(Path):
    """Reverse over reverse. ``keep``: no graph is built for the next product at the same point (fast, takes memory).

    ``batched``: all vectors in one sweep of vectorised kernels, which pays where small operations are bound by
    overhead; else one vector after the other, which is cheaper where arithmetic dominates.
    """

    def __init__(self, keep: bool = True, batched: bool = False) -> None:
        self.keep, self.batched = keep, batched
        self.name = ("kept" if keep else "rebuilt") + ("-batched" if batched else "")
        if batched:
            self.risky = ("NativeGroupNorm",)  # without weights, where shapes happen to fit one another

    def gradient(self, problem: TrainingProblem, point: Point) -> Float[Tensor, " P"]:
        """The gradient as the graphs have it from which products are drawn; with ``keep`` they stay at the point."""
        if point.graph_gradient is None:
            for graph in self._graphs(problem, point):
                del graph
        assert point.graph_gradient is not None
        return point.graph_gradient

    def _products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        known = point.graphs is not None
        try:
            return self._summed(problem, point, rows)
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            if known or self.batched:
                raise
            raise fault_at(point, problem, error) from error

    def _summed(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        layout = problem.layout
        blocks = [layout.split(rows)] if self.batched else [layout.split(row) for row in rows]
        leading = tuple(rows.shape[:1]) if self.batched else ()
        total: Tensor | None = None
        for graph in self._graphs(problem, point):
            found = [layout.join(graph.product(block, self.batched), leading) for block in blocks]
            part = found[0].view(rows.shape) if len(found) == 1 else torch.stack(found)
            total = part if total is None else total.add_(part)
            del graph, found, part  # before the graph of the next chunk is built
        assert total is not None  # data without any chunk are refused
        return total

    def _graphs(self, problem: TrainingProblem, point: Point) -> Iterator[GradientGraph]:
        if point.graphs is not None:
            yield from point.graphs
            return
        kept: list[GradientGraph] = []
        loss, gradient = torch.zeros((), dtype=torch.float64, device=point.flat.device), torch.zeros_like(point.flat)
        for chunk in problem.chunks():
            graph = GradientGraph(problem.part(point, chunk), point.tensors)
            problem.count_preparation(1 - A_LOSS, chunk.batch)
            loss += graph.loss
            gradient += problem.layout.join(graph.gradient)
            if self.keep:
                kept.append(graph)
            held = [graph]
            del graph
            yield held.pop()
        point.loss, point.graph_gradient = loss, gradient
        if self.keep:
            point.graphs = kept


class ForwardOverReverse(Path):
    """The forward derivative of the gradient, all vectors of a block at once; nothing is kept between products."""

    name = "forward"
    batched = True
    risky = (
        "CholeskyInverse",
        "CholeskySolve",  # of right-hand sides that are broadcast
        "LinalgVectorNorm",  # of a zero vector, as the next: a number where there is no second derivative
        "Norm",
        "ScatterReduce",  # of products
        "Sinc",  # at zero
    )

    def __init__(self) -> None:
        self._risks: list[str] | None = None  # operations of the loss that may go wrong at some parameters
        self._compared: Tensor | None = None  # the last parameters at which they were seen not to

    def _products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = self._forward(problem, point, rows)
        if self._risks is None:
            self._risks = operations_among(problem, point, self.risky)
        if self._risks and self._compared is not point.flat:
            reference = DoubleBackward(keep=False).products(problem, dataclasses.replace(point, graphs=None), rows[:1])
            if bool((result[:1] - reference).norm() > 1e-2 * reference.norm()):
                raise NotDifferentiableError(
                    f"path='forward' is wrong at these parameters for {' or '.join(self._risks)}", hint="path='auto'"
                )
            self._compared = point.flat
        return result

    def _forward(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = torch.zeros_like(rows)
        inputs = tuple(t.detach() for t in point.tensors)
        for chunk in problem.chunks():

            def loss(tensors: Tensors, chunk: Chunk = chunk) -> Tensor:
                return chunk.share * problem.loss_of(tensors, point.constants, chunk.batch)

            # Not jacrev in the place of grad: its forward derivative is wrong for layer norms, without an error.
            gradient = torch.func.grad(loss)

            def product(vector: Tensors, gradient: Callable[[Tensors], Tensors] = gradient) -> Tensors:
                return torch.func.jvp(gradient, (inputs,), (tuple(vector),))[1]

            with own_deprecations_quiet(), _loops_quiet(), Formulas():
                found = torch.func.vmap(product)(problem.layout.split(rows))
            result += problem.layout.join(found, tuple(rows.shape[:1]))
        return result


def operations_among(problem: TrainingProblem, point: Point, names: tuple[str, ...]) -> list[str]:
    """The operations of the loss whose nodes have names that begin with one of these. Cost: the loss of a chunk."""
    chunk = next(iter(problem.chunks()))
    nodes = nodes_of([problem.part(point, chunk)]) if names else ()
    return sorted({operation_of(node) for node in nodes if node.name().startswith(names)})


@contextmanager
def _loops_quiet() -> Iterator[None]:
    """Operations that ``vmap`` takes one vector at a time cost time, which is measured, and need no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield
