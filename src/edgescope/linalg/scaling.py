"""Norms without overflow and underflow: in float32 the square of 1e+20 is infinite, and that of 1e-30 is zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scales_of(vectors: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The power of two next to the largest entry along ``dim`` (kept with length 1); 1 for a vector of zeros.

    Dividing by it is exact, and the squares of the quotients neither overflow nor vanish.
    """
    # 15 times as fast as the infinity norm on a CPU.
    largest = torch.maximum(vectors.amax(dim, keepdim=True), -vectors.amin(dim, keepdim=True))
    limit = math.frexp(torch.finfo(vectors.dtype).max)[1] - 2  # the power and its inverse are normal numbers
    exponents = torch.where(largest.isfinite(), torch.frexp(largest).exponent, 0)
    return torch.ldexp(torch.ones_like(largest), exponents.clamp(-limit, limit))


def lengths_of(vectors: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """The Euclidean norm along ``dim``; infinite only where an entry is, or where it overflows the precision."""
    if not vectors.numel():
        return torch.linalg.vector_norm(vectors, dim=dim, keepdim=keepdim)
    scales = scales_of(vectors, dim)
    lengths = torch.linalg.vector_norm(vectors / scales, dim=dim, keepdim=True) * scales
    return lengths if keepdim else lengths.squeeze(dim)
