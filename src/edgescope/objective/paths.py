"""The derivative paths: four ways to the same Hessian product, of which none is the cheapest everywhere.

Not used, because they were found silently wrong or costly: the gradient of a forward derivative (wrong for layer
norms), ``torch.func.linearize`` (zeros), finite differences of gradients (inexact).
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import EdgescopeError, NotDifferentiableError
from edgescope.objective.batches import Chunk

Tensors = Sequence[Tensor]
Function = Callable[[Tensors, Any], Tensor]


@dataclass
class Point:
    """A place in parameter space, with what has been worked out there: loss, gradient and, perhaps, graphs."""

    flat: Float[Tensor, " P"]
    tensors: list[Tensor]
    buffers: dict[str, Tensor]
    loss: Tensor | None = None
    gradient: Float[Tensor, " P"] | None = None
    graphs: list[GradientGraph] | None = None


class GradientGraph:
    """The graph of one chunk's gradient, from which any number of Hessian products can be drawn."""

    def __init__(self, loss: Tensor, tensors: Tensors) -> None:
        self.loss = loss.detach()
        self.tensors = tensors
        found = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
        self.gradient = [torch.zeros_like(t) if g is None else g.detach() for g, t in zip(found, tensors, strict=True)]
        # A gradient that does not depend on the parameters has no second derivative to draw on.
        self.roots = [(i, g) for i, g in enumerate(found) if g is not None and g.requires_grad]

    def product(self, vector: Tensors) -> Tensors:
        return self._pull([vector[i] for i, _ in self.roots], batched=False)

    def products(self, vectors: Tensors) -> Tensors:
        """The same for several vectors, stacked along a new first dimension of every tensor."""
        return self._pull([vectors[i] for i, _ in self.roots], batched=True)

    def _pull(self, seeds: list[Tensor], batched: bool) -> Tensors:
        if not self.roots:
            return [torch.zeros_like(t) for t in self.tensors]
        return torch.autograd.grad(
            [g for _, g in self.roots],
            self.tensors,
            seeds,
            retain_graph=True,
            is_grads_batched=batched,
            allow_unused=True,
            materialize_grads=True,
        )


class Problem(ABC):
    """What a path needs to know of an objective: its chunks, the loss of one, and how vectors are laid out."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]: ...

    @abstractmethod
    def loss_of(self, tensors: Tensors, buffers: dict[str, Tensor], batch: Any) -> Tensor: ...

    @abstractmethod
    def split(self, rows: Float[Tensor, "*k P"]) -> list[Tensor]: ...

    @abstractmethod
    def join(self, tensors: Tensors, out: Float[Tensor, "*k P"]) -> None:
        """Add tensors (with or without a leading dimension k) to flat rows, in place."""


class Path(ABC):
    """One way to a block of Hessian products at a point, summed over all chunks. Rows in, rows out: ``(k, P)``."""

    name: str

    @abstractmethod
    def products(self, problem: Problem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]: ...


class DoubleBackward(Path):
    """Reverse over reverse. ``keep``: the graphs stay for the next product at the same point (fast, takes memory).

    ``batched``: all vectors in one sweep of vectorised kernels, which pays where small operations are bound by
    overhead; else one vector after the other, which is cheaper where arithmetic dominates.
    """

    def __init__(self, keep: bool = True, batched: bool = False) -> None:
        self.keep, self.batched = keep, batched
        self.name = ("kept" if keep else "rebuilt") + ("-batched" if batched else "")

    def products(self, problem: Problem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = torch.zeros_like(rows)
        for graph in self.graphs(problem, point):
            if self.batched:
                problem.join(graph.products(problem.split(rows)), result)
            else:
                for row, total in zip(rows, result, strict=True):
                    problem.join(graph.product(problem.split(row)), total)
        return result

    def graphs(self, problem: Problem, point: Point) -> Iterator[GradientGraph]:
        if point.graphs is not None:
            yield from point.graphs
            return
        kept: list[GradientGraph] = []
        loss, gradient = torch.zeros((), dtype=torch.float64, device=point.flat.device), torch.zeros_like(point.flat)
        for chunk in problem.chunks():
            graph = GradientGraph(
                chunk.share * problem.loss_of(point.tensors, point.buffers, chunk.batch), point.tensors
            )
            loss += graph.loss
            problem.join(graph.gradient, gradient)
            if self.keep:
                kept.append(graph)
            yield graph
        point.loss, point.gradient = loss, gradient
        if self.keep:
            point.graphs = kept


class ForwardOverReverse(Path):
    """The forward derivative of the gradient, all vectors of a block at once; nothing is kept between products."""

    name = "forward"

    def products(self, problem: Problem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = torch.zeros_like(rows)
        inputs = tuple(t.detach() for t in point.tensors)
        for chunk in problem.chunks():

            def loss(tensors: Tensors, chunk: Chunk = chunk) -> Tensor:
                return chunk.share * problem.loss_of(tensors, point.buffers, chunk.batch)

            # jacrev rather than grad: the forward derivative of grad raises for some losses ("ZeroTensors").
            gradient = torch.func.jacrev(loss)

            def product(vector: Tensors, gradient: Function = gradient) -> Tensor:
                return torch.func.jvp(gradient, (inputs,), (tuple(vector),))[1]

            problem.join(torch.func.vmap(product)(problem.split(rows)), result)
        return result


class Compiled(Path):
    """Reverse over reverse, traced once per shape of chunk and compiled by inductor. Slow to build, fast to run."""

    name = "compiled"

    def __init__(self) -> None:
        self._programs: dict[Any, Callable[..., Tensors]] = {}

    @staticmethod
    def possible() -> bool:
        """Whether this machine has the C++ compiler that inductor needs."""
        return any(shutil.which(name) for name in ("g++", "clang++", "cl"))

    def products(self, problem: Problem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = torch.zeros_like(rows)
        tensors = [t.detach() for t in point.tensors]
        for chunk in problem.chunks():
            leaves, form = torch.utils._pytree.tree_flatten(chunk.batch)
            program = self._program(problem, point, tensors, leaves, form)
            numbers = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            for row, total in zip(rows, result, strict=True):
                vector = [v.contiguous() for v in problem.split(row)]
                found = program(tensors, list(point.buffers.values()), numbers, vector)
                problem.join([chunk.share * f for f in found], total)
        return result

    def _program(
        self, problem: Problem, point: Point, tensors: Tensors, leaves: list[Any], form: Any
    ) -> Callable[..., Tensors]:
        key = (
            str(form),
            tuple(
                (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves
            ),
        )
        if key not in self._programs:
            names = list(point.buffers)

            def product(ps: Tensors, buffers: Tensors, numbers: Tensors, vector: Tensors) -> Tensors:
                given = iter(numbers)
                filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
                batch = torch.utils._pytree.tree_unflatten(filled, form)
                known = dict(zip(names, buffers, strict=True))
                inputs = [p.detach().requires_grad_() for p in ps]
                loss = problem.loss_of(inputs, known, batch)
                first = torch.autograd.grad(loss, inputs, create_graph=True, materialize_grads=True, allow_unused=True)
                pairs = [(g, v) for g, v in zip(first, vector, strict=True) if g.requires_grad]
                if not pairs:
                    return [torch.zeros_like(p) for p in ps]
                return list(
                    torch.autograd.grad(
                        [g for g, _ in pairs],
                        inputs,
                        [v for _, v in pairs],
                        materialize_grads=True,
                        allow_unused=True,
                    )
                )

            numbers = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            example = [torch.zeros_like(p) for p in tensors]
            # Traced to elementary operations first: the compiler then sees neither hooks nor a user's Python.
            from torch.fx.experimental.proxy_tensor import make_fx

            traced = make_fx(product)(list(tensors), list(point.buffers.values()), numbers, example)
            with torch.compiler.set_stance("default"):
                compiled = torch.compile(traced, dynamic=False)
                compiled(list(tensors), list(point.buffers.values()), numbers, example)

            def run(*arguments: Any) -> Tensors:
                with torch.compiler.set_stance("default"), torch.no_grad():
                    return compiled(*arguments)

            self._programs[key] = run
        return self._programs[key]


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
