"""One step of training: of one optimizer or of several, with clipped gradients, of SAM, of gradient flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgescope.optim import SAM, GradientFlow


def take_step(
    optimizers: Sequence[torch.optim.Optimizer], gradient: Callable[[], Tensor], max_norm: float | None = None
) -> None:
    """One step of every optimizer, given the gradient in ``.grad``.

    ``gradient()`` computes loss and gradient at the present parameters, which gradient flow and SAM need once more.
    ``max_norm`` clips the gradient that the optimizers receive, that of all their parameters together, as
    ``torch.nn.utils.clip_grad_norm_`` does; of SAM it is the gradient at the perturbed parameters.
    """
    first = optimizers[0]
    if isinstance(first, GradientFlow):
        first.step(gradient)
        return
    if isinstance(first, SAM):
        first.first_step()
        gradient()
    if max_norm is not None:
        groups = (group for optimizer in optimizers for group in optimizer.param_groups)
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], max_norm)
    for optimizer in optimizers:
        optimizer.step()
