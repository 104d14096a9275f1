"""Local search for the maximum norm, where the matrix is known: single coordinates, and pairs of signs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_GAIN = 1e-12  # of the value


def polish(matrix: Float[Tensor, "P P"], points: Float[Tensor, "P k"], moves: int) -> Float[Tensor, "P k"]:
    """Each column after moves of single coordinates, the best first, until no move of one raises d'Hd in the cube.

    A coordinate goes to -1 or 1, or between them where the diagonal is negative and another one is at an end; when none
    is left, the best pair of signs is flipped. At most ``moves`` moves. Cost: O(P k) a move, O(P^2 k) where pairs are
    looked at; no products.
    """
    points = points.clone()
    images = matrix @ points
    diagonal = matrix.diagonal()[:, None]
    columns = torch.arange(points.shape[1], device=points.device)
    for _ in range(moves):
        rest = images - diagonal * points  # the slope in a coordinate, without its own contribution
        ends = torch.where(rest == 0, 1.0, rest.sign())
        inside = torch.where(diagonal < 0, (rest / torch.where(diagonal < 0, -diagonal, 1.0)).clamp(-1, 1), ends)
        edge = points.abs() >= 1
        inside = torch.where(
            edge & (edge.sum(0) == 1), ends, inside
        )  # the last at an end holds the point on the sphere
        gains = 2 * rest * (inside - points) + diagonal * (inside**2 - points**2)
        gain, row = gains.max(dim=0)
        values = torch.einsum("pk,pk->k", points, images).abs()
        useful = gain > _LEAST_GAIN * values
        if bool(useful.any()):
            step = torch.where(useful, inside[row, columns] - points[row, columns], 0.0)
            points[row, columns] += step
            images += matrix[:, row] * step
        elif not _flip_pairs(matrix, points, images, values):
            break
    return points


def best_corners(matrix: Float[Tensor, "P P"], count: int) -> Float[Tensor, "P k"]:
    """The ``count`` corners of the cube with the largest d'Hd, of d and -d one. Cost: O(2^P P^2)."""
    size = matrix.shape[0]
    numbers = torch.arange(2 ** (size - 1), device=matrix.device)
    bits = (numbers >> torch.arange(size, device=matrix.device)[:, None]) & 1
    corners = (1 - 2 * bits).to(matrix)
    values = torch.einsum("pk,pk->k", corners, matrix @ corners)
    return corners[:, values.topk(min(count, len(values))).indices]


def _flip_pairs(matrix: Tensor, points: Tensor, images: Tensor, values: Tensor) -> bool:
    """The best pair of signs flipped in each column where that gains; whether it did anywhere."""
    flipped = False
    for column in range(points.shape[1]):
        d = points[:, column]
        # flipping i and j: -4 d_i (Hd)_i + 4 H_ii for each, and 8 H_ij d_i d_j for the two
        single = 4 * (matrix.diagonal() * d - images[:, column]) * d
        gains = single[:, None] + single + 8 * matrix * torch.outer(d, d)
        gains.fill_diagonal_(-torch.inf)
        best = int(gains.argmax())
        i, j = divmod(best, len(d))
        if len(d) > 1 and float(gains[i, j]) > _LEAST_GAIN * float(values[column]):
            images[:, column] -= 2 * (matrix[:, i] * d[i] + matrix[:, j] * d[j])
            points[[i, j], column] *= -1
            flipped = True
    return flipped
