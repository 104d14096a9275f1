"""Batch and layer normalisation as Wen, Li, Ma (2023) simplify them: a division, and no mean that is subtracted."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgescope.errors import InputError


class SimplifiedBatchNorm(_BatchNorm):
    """Each neuron divided by its root mean square over a batch, and multiplied by its own factor ``weight`` (gamma).

    ``over`` are the activations that the mean is taken of, such as those of the whole training set; without it the
    batch itself in training mode, and in evaluation mode the running mean of squares (``running_var``; the running
    mean stays 0). A neuron that is zero throughout stays zero. There is no bias and no epsilon. The paper prints one
    factor for all neurons; its proof needs one for each. Raises :class:`InputError` for a training batch of one.
    """

    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=0.0, momentum=0.1)
        self.register_parameter("bias", None)

    def forward(self, h: Float[Tensor, "N width"], over: Float[Tensor, "M width"] | None = None) -> Tensor:
        if over is not None:
            mean_square = over.square().mean(0)
        elif self.training:
            if len(h) < 2:
                raise InputError(
                    "batch normalisation of a batch of 1 in training mode",
                    expected="at least 2 samples",
                    hint="normalize_over(training_inputs) of the network, which normalises over all of them",
                )
            mean_square = h.square().mean(0)
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_var.lerp_(mean_square.detach().to(self.running_var.dtype), self.momentum)
        else:
            mean_square = self.running_var
        silent = mean_square == 0
        return h * self.weight * torch.where(silent, 0.0, torch.where(silent, 1.0, mean_square).rsqrt())

    def _check_input_dim(self, input: Tensor) -> None:
        """Any width that broadcasts; required by the base class."""


class SimplifiedLayerNorm(nn.Module):
    """A sample's activations divided by their Euclidean length, or by ``epsilon`` where they are shorter than that."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, h: Float[Tensor, "N width"]) -> Float[Tensor, "N width"]:
        square = h.square().sum(-1, keepdim=True)
        long = square > self.epsilon**2
        return torch.where(long, h * torch.where(long, square, 1.0).rsqrt(), h / self.epsilon)

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon:g}"
