"""The local search over signs: where it ends no move that it makes raises the value, however small its steps."""

from __future__ import annotations

import itertools

import pytest
import torch
from quadratic_forms import form, over_signs, with_nonnegative_diagonal
from torch import Tensor

import edgescope as es
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


@pytest.mark.parametrize("size", [1, 2, 3, 6, 9, 12])
def test_of_few_rows_the_best_corner_is_found(size: int) -> None:
    """Where ascent from a few starts ends at another maximum, too (seed 451 with 6 rows is such a matrix)."""
    for seed in (*range(10), 451):
        matrix = with_nonnegative_diagonal(form("gaussian", size, seed))
        for turn in range(3):
            order = torch.randperm(size, generator=torch.Generator().manual_seed(turn))
            found = es.generalized_sharpness(matrix[order][:, order], "linf", restarts=1, certificate=False)
            assert found.lower == pytest.approx(over_signs(matrix), rel=1e-9)
            assert float(found.direction.abs().max()) == 1
