"""Finding the operation of a loss, in its autograd graph, that has no derivative or one that is not finite."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from edgescope.errors import EdgescopeError, InputError, NotDifferentiableError
from edgescope.objective.layout import Tensors


def operation_of(node: Node) -> str:
    """The operation that a node of a graph is the derivative of, as an error line says it."""
    if isinstance(node, BackwardCFunction):
        return f"the custom autograd function {type(node).__name__.removesuffix('Backward')}"
    match = re.fullmatch(r"(?:\w+::)*(\w+?)(?:Backward)*\d*", node.name())
    return f"the operation '{_snake(match.group(1) if match else node.name())}'"


def nodes_of(tensors: Sequence[Tensor]) -> Iterator[Node]:
    """All nodes of the graphs that ``tensors`` come from."""
    seen: set[Node] = set()
    waiting = [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(following for following, _ in node.next_functions)


class _Watch:
    """What the nodes of a graph do while it is differentiated.

    ``entered`` is the last node that began. ``spoiled`` is the first that made NaN or infinity of finite numbers.
    """

    def __init__(self) -> None:
        self.entered: Node | None = None
        self.spoiled: Node | None = None

    @contextmanager
    def over(self, outputs: Sequence[Tensor]) -> Iterator[None]:
        handles = []
        for node in nodes_of(outputs):
            handles.append(node.register_prehook(self._enters(node)))
            handles.append(node.register_hook(self._leaves(node)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enters(self, node: Node) -> Callable[[Any], None]:
        def hook(gradients: Any) -> None:
            self.entered = node

        return hook

    def _leaves(self, node: Node) -> Callable[[Any, Any], None]:
        def hook(inputs: Any, outputs: Any) -> None:
            if self.spoiled is None and finite(outputs) and not finite(inputs):
                self.spoiled = node

        return hook


def finite(tensors: Sequence[Tensor | None]) -> bool:
    """Whether no entry is NaN or infinite."""
    return all(tensor is None or bool(torch.isfinite(tensor).all()) for tensor in tensors)


def operation_that_failed(loss: Callable[[Tensors], Tensor], tensors: Tensors, vector: Tensors) -> str | None:
    """The operation whose second derivative raises in the product with ``vector``; None where the graph does not tell.

    ``loss`` is evaluated at copies of ``tensors``, with a gradient and a product.
    """
    leaves, watch = [t.detach().clone().requires_grad_() for t in tensors], _Watch()
    try:
        with _origins_kept():
            gradient = _gradient(loss(leaves), leaves, watch)
            watch.entered = None
            _product(gradient, leaves, vector, watch)
    except (RuntimeError, NotImplementedError):
        return None if watch.entered is None else operation_of(_origin(watch.entered))
    return None


def not_finite(loss: Callable[[Tensors], Tensor], tensors: Tensors, vector: Tensors) -> EdgescopeError | None:
    """Why the Hessian product with a ``vector`` of unit norm is not finite; None where it is finite.

    That is an error line which says whether the loss, its gradient or its Hessian is not finite, and which operation
    made it so. ``loss`` is evaluated at copies of ``tensors``, with a gradient and a product.
    """
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    hint = "other parameters, dtype=torch.float64, or another operation in its place"
    with _origins_kept():
        value, watch = loss(leaves), _Watch()
        if not finite([value.detach()]):
            return InputError(f"the loss is {float(value.detach())} at these parameters", expected="a finite loss")
        gradient = _gradient(value, leaves, watch)
        if not finite([g.detach() for g in gradient if g is not None]):
            what = "the gradient of this loss does not exist, or is not finite, at these parameters"
            return NotDifferentiableError(what + _because(watch, "derivative"), hint=hint)
        watch = _Watch()
        if finite(_product(gradient, leaves, vector, watch)):
            return None
        what = "the Hessian of this loss does not exist, or is not finite, at these parameters"
        return NotDifferentiableError(what + _because(watch, "second derivative"), hint=hint)


def _because(watch: _Watch, what: str) -> str:
    if watch.spoiled is None:
        return ""
    return f" (NaN or infinity first arises in the {what} of {operation_of(_origin(watch.spoiled))})"


def _gradient(loss: Tensor, leaves: Tensors, watch: _Watch) -> Sequence[Tensor | None]:
    with watch.over([loss]):
        return torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)


def _product(
    gradient: Sequence[Tensor | None], leaves: Tensors, vector: Tensors, watch: _Watch
) -> Sequence[Tensor | None]:
    roots = [(g, v) for g, v in zip(gradient, vector, strict=True) if g is not None and g.requires_grad]
    if not roots:
        return []
    outputs = [g for g, _ in roots]
    with watch.over(outputs):
        return torch.autograd.grad(outputs, leaves, [v for _, v in roots], allow_unused=True)


@contextmanager
def _origins_kept() -> Iterator[None]:
    """Inside, nodes that a backward pass makes remember the node of the forward pass that made them."""
    with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True, check_nan=False):
        warnings.simplefilter("ignore")  # anomaly detection tells of every error by a warning
        yield


def _origin(node: Node) -> Node:
    """The node of the forward pass that a node of the second derivative comes from."""
    while (parent := cast(dict[str, Any], node.metadata).get("parent_")) is not None:
        node = parent
    return node


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
