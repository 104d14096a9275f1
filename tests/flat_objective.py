"""A stand-in for an objective: a function of one flat vector, with exact derivatives from torch.func."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, hessian


class FlatObjective:
    """``loss_of(w)`` for a flat vector ``w``; ``tensors`` are the live parameters it is evaluated at by default."""

    def __init__(self, loss_of: Callable[[Tensor], Tensor], tensors: list[Tensor]) -> None:
        self.loss_of, self.tensors = loss_of, tensors
        self.size = sum(t.numel() for t in tensors)

    def parameters(self) -> Tensor:
        return torch.cat([t.detach().flatten() for t in self.tensors])

    def loss(self, w: Tensor | None = None) -> Tensor:
        return self.loss_of(self.parameters() if w is None else w)

    def gradient(self, w: Tensor | None = None) -> Tensor:
        return grad(self.loss_of)(self.parameters() if w is None else w)

    def hvp(self, V: Tensor, w: Tensor | None = None) -> Tensor:
        return hessian(self.loss_of)(self.parameters() if w is None else w) @ V

    def write_gradients(self) -> None:
        """Put the gradient where an optimizer looks for it."""
        pieces = self.gradient().split([t.numel() for t in self.tensors])
        for tensor, piece in zip(self.tensors, pieces, strict=True):
            tensor.grad = piece.reshape(tensor.shape).clone()


class Quadratic(FlatObjective):
    """w^T H w / 2."""

    def __init__(self, H: Tensor, tensors: list[Tensor]) -> None:
        super().__init__(lambda w: 0.5 * w @ H @ w, tensors)
        self.H = H

    def gradient(self, w: Tensor | None = None) -> Tensor:
        return self.H @ (self.parameters() if w is None else w)

    def hvp(self, V: Tensor, w: Tensor | None = None) -> Tensor:
        return self.H @ V


def tanh_network(seed: int, dtype: torch.dtype = torch.float64, samples: int = 6) -> FlatObjective:
    """Two bias-free layers, 3-4-2, with tanh and half squared error: every parameter is a matrix."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, y = draw(samples, 3), draw(samples, 2)
    tensors = [draw(4, 3).requires_grad_(), draw(2, 4).requires_grad_()]

    def loss_of(w: Tensor) -> Tensor:
        first, second = w[:12].view(4, 3), w[12:].view(2, 4)
        return 0.5 * ((x @ first.T).tanh() @ second.T - y).square().sum(1).mean()

    return FlatObjective(loss_of, tensors)
