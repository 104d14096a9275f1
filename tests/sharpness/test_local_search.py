"""The local search over signs: where it ends no move that it makes raises the value, however small its steps."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from edgescope.sharpness.flips import polish

SIZE = 9


def value(matrix: Tensor, point: Tensor) -> float:
    return float(point @ matrix @ point)


def neighbours(point: Tensor) -> list[Tensor]:
    """The point with one coordinate at either end, and with the signs of two flipped."""
    found = []
    for i, end in itertools.product(range(len(point)), (-1.0, 1.0)):
        found.append(point.clone())
        found[-1][i] = end
    for pair in itertools.combinations(range(len(point)), 2):
        found.append(point.clone())
        found[-1][list(pair)] *= -1
    return found


@pytest.mark.parametrize("shift", [-6.0, -2.0, 0.0, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_no_single_coordinate_and_no_pair_of_signs_raises_the_value(seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T + shift * torch.eye(SIZE, dtype=torch.float64)
    starts = torch.randn(SIZE, 5, generator=generator, dtype=torch.float64)
    starts = starts / starts.abs().amax(0)
    ends = polish(matrix, starts, 200)
    for start, end in zip(starts.T, ends.T, strict=True):
        assert float(end.abs().max()) == 1
        assert value(matrix, end) >= value(matrix, start) - 1e-9
        assert max(value(matrix, other) for other in neighbours(end)) <= value(matrix, end) + 1e-9
