"""The tridiagonalisation where a new vector is all but zero: what is left of it is mostly rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgescope.linalg import from_matrix
from edgescope.linalg.lanczos import Lanczos


def coupled(beside: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A tridiagonal matrix with these entries beside the diagonal in a random frame, and the frame's first vector."""
    generator = torch.Generator().manual_seed(seed)
    size = len(beside) + 1
    frame = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    diagonal = torch.rand(size, generator=generator, dtype=torch.float64)
    matrix = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
    matrix = frame @ matrix @ frame.T
    return (matrix + matrix.T) / 2, frame[:, :1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("small", [1e-13, 1e-12, 1e-9])
def test_a_nearly_invariant_subspace_is_left_in_a_direction_orthogonal_to_it(small: float, seed: int) -> None:
    beside = torch.ones(11, dtype=torch.float64)
    beside[4] = small
    matrix, start = coupled(beside, seed)
    runs = Lanczos(from_matrix(matrix), start, 12)
    runs.extend(12)
    found = runs.nodes(0, 12)
    wanted = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=1e-11)
