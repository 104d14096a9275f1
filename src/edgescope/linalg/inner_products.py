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
    left = few[:, :whole].view(few.shape[0], whole // segment, segment).transpose(0, 1)
    right = many[:, :whole].view(many.shape[0], whole // segment, segment).permute(1, 2, 0)
    total = torch.bmm(left, right).sum(0, dtype=torch.float64)
    return total + few[:, whole:] @ many[:, whole:].T


def principal_axes(gram: Float[Tensor, "b b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, "b b"]]:
    return torch.linalg.eigh((gram + gram.T) / 2)


def reflection_to(directions: Float[Tensor, "b f"]) -> tuple[Float[Tensor, "f b"], Float[Tensor, "f b"]]:
    """X and Y such that I - X Y^T is a symmetric orthogonal matrix whose first b columns span these orthonormal rows.

    A block Householder reflection, with Y = 2 X (X^T X)^(-1): that of the first b unit vectors to a basis of the span,
    chosen such that X^T X is at least 2. Cost of applying it to f rows: that of 4 b / f of a rotation.
    """
    count = directions.shape[0]
    left, _, right = torch.linalg.svd(directions[:, :count])
    across = left @ right  # the rows of its transpose times the directions have a symmetric first block
    across = across.T @ directions
    across[:, :count] += torch.eye(count, dtype=directions.dtype, device=directions.device)
    along = torch.linalg.solve(across @ across.T / 2, across)
    return across.T, along.T


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
