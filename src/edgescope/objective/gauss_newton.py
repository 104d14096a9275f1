"""Gauss-Newton products: the curvature of the criterion, carried back and forth through the model's derivative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgescope.objective.paths import Tensors


class GaussNewtonGraph:
    """The graphs of one chunk's outputs and of its criterion, from which any number of products can be drawn.

    The forward product J v comes from differentiating the backward product u -> J^T u, which is linear in u, so that
    every model with a gradient will do (Pearlmutter 1994; Schraudolph 2002).
    """

    def __init__(self, outputs: Tensor, criterion: Callable[[Tensor], Tensor], tensors: Tensors) -> None:
        self.outputs, self.tensors = outputs, tensors
        self.probe = torch.zeros_like(outputs, requires_grad=True)
        back = torch.autograd.grad(
            outputs, tensors, self.probe, create_graph=True, allow_unused=True, materialize_grads=True
        )
        self.back = [(i, b) for i, b in enumerate(back) if b.requires_grad]
        self.leaf = outputs.detach().requires_grad_()
        (self.slope,) = torch.autograd.grad(criterion(self.leaf), self.leaf, create_graph=True)

    def product(self, vector: Tensors) -> Tensors:
        if not self.slope.requires_grad or not self.back:
            return [torch.zeros_like(t) for t in self.tensors]
        (forward,) = torch.autograd.grad(
            [b for _, b in self.back], self.probe, [vector[i] for i, _ in self.back], retain_graph=True
        )
        (curved,) = torch.autograd.grad(self.slope, self.leaf, forward, retain_graph=True)
        return torch.autograd.grad(
            self.outputs, self.tensors, curved, retain_graph=True, allow_unused=True, materialize_grads=True
        )
