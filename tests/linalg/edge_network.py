"""A small real network at its edge of stability: the objective as a bare function of a flat float64 vector."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor

from edgescope.linalg import Operator

Loss = Callable[[Tensor], Tensor]


def digits_network(hidden: Sequence[int], samples: int, seed: int) -> tuple[Loss, Tensor]:
    """Half-MSE of a tanh network on digits, and a start."""
    inputs, targets = load_digits(return_X_y=True)
    chosen = np.random.default_rng(seed).permutation(len(inputs))[:samples]
    x = torch.tensor((inputs[chosen] - inputs[chosen].mean(0)) / 16)
    y = torch.nn.functional.one_hot(torch.tensor(targets[chosen]), 10).double()
    generator = torch.Generator().manual_seed(seed)
    sizes = [64, *hidden, 10]
    shapes = [(b, a + 1) for a, b in itertools.pairwise(sizes)]  # the last column is the bias
    start = [torch.randn(s, generator=generator, dtype=torch.float64).flatten() / s[1] ** 0.5 for s in shapes]

    def loss(w: Tensor) -> Tensor:
        h, at = x, 0
        for i, (rows, columns) in enumerate(shapes):
            layer = w[at : at + rows * columns].view(rows, columns)
            at += rows * columns
            h = h @ layer[:, :-1].T + layer[:, -1]
            h = torch.tanh(h) if i < len(shapes) - 1 else h
        return 0.5 * (h - y).square().sum(1).mean()

    return loss, torch.cat(start)


class Live:
    """A loss at parameters that move by gradient descent; its operator is the Hessian where they are now."""

    def __init__(self, loss: Loss, w: Tensor, dtype: torch.dtype = torch.float64) -> None:
        self.loss, self.w, self.dtype = loss, w, dtype

    def descend(self, lr: float, steps: int = 1) -> None:
        for _ in range(steps):
            w = self.w.requires_grad_()
            self.w = (w - lr * torch.autograd.grad(self.loss(w), w)[0]).detach()

    def operator(self) -> Operator:
        w = self.w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(w), w, create_graph=True)

        def apply(block: Tensor) -> Tensor:
            columns = [torch.autograd.grad(gradient, w, v.double(), retain_graph=True)[0] for v in block.T]
            return torch.stack(columns, dim=1).to(self.dtype)

        return Operator(w.shape[0], apply, dtype=self.dtype)

    def reference(self, k: int) -> np.ndarray:
        """The k largest eigenvalues by ARPACK in float64, descending."""
        exact = Live(self.loss, self.w).operator()
        product = LinearOperator(
            (self.w.shape[0],) * 2,
            matvec=lambda v: (exact @ torch.from_numpy(np.array(v, dtype=float).reshape(-1))).numpy(),
            dtype=float,
        )
        return np.sort(eigsh(product, k=k + 2, which="LA", tol=1e-6, return_eigenvectors=False))[::-1][:k]
