"""The square root of second moments."""

from __future__ import annotations

import torch
from torch import Tensor


def root(square: Tensor) -> Tensor:
    """Square root with derivative zero at zero, so that a weight that never had a gradient gives no NaN."""
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())
