"""Inner products of rows in float64, and what is read from them: principal axes, and rows that span all."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SEGMENT = 2048  # terms summed in the operator's precision; the sums of the segments are added in float64


def inner(few: Float[Tensor, "j P"], many: Float[Tensor, "m P"]) -> Float[Tensor, "j m"]:
    """Inner products of rows, in float64.

    Sums over segments are added in float64: an ordinary float32 product over 10^6 terms had an error of 5e-4. The
    squares of the entries must neither overflow nor underflow in the rows' precision: see
    :mod:`~edgescope.linalg.scaling`.
    """
    length = few.shape[1]
    segment = min(_SEGMENT, length)
    whole = length - length % segment
    left = few[:, :whole].unflatten(1, (-1, segment)).transpose(0, 1)
    right = many[:, :whole].unflatten(1, (-1, segment)).permute(1, 2, 0)
    total = torch.bmm(left, right).sum(0, dtype=torch.float64)
    return total + few[:, whole:] @ many[:, whole:].T


def principal_axes(gram: Float[Tensor, "b b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, "b b"]]:
    return torch.linalg.eigh((gram + gram.T) / 2)


def spanning_rows(gram: Float[Tensor, "b b"], count: int, resolved: float) -> Bool[Tensor, " b"]:
    """``count`` rows that span all, by inner products: in turn that with the longest part outside of those before, of
    which the square is more than the fraction ``resolved`` of its own."""
    left, chosen = gram.clone(), torch.zeros(gram.shape[0], dtype=torch.bool, device="cpu")
    for _ in range(count):
        lengths = torch.where(left.diagonal() > resolved * gram.diagonal(), left.diagonal(), 0.0)
        place = int(torch.where(chosen, -1.0, lengths).argmax())
        chosen[place] = True
        left = left - torch.outer(left[:, place], left[place]) / left[place, place].clamp(min=1e-300)
    return chosen
