"""The generalized sharpness of a loss in another unit is the same number in that unit."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from edgescope.linalg import Operator, from_matrix
from edgescope.sharpness import GeneralizedSharpness, generalized_sharpness


def symmetric(size: int) -> Tensor:
    """Eigenvalues between 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    matrix = (frame * torch.linspace(1, 3, size, dtype=torch.float64)) @ frame.T
    return (matrix + matrix.T) / 2


@functools.cache
def measured(size: int, factor: float, dtype: torch.dtype, geometry: str, dense: bool) -> GeneralizedSharpness:
    """Of ``factor`` times the matrix; ``dense``: with the matrix at hand."""
    matrix, shapes = factor * symmetric(size).to(dtype), [(size // 2, 2)]
    if dense:
        return generalized_sharpness(from_matrix(matrix, shapes), geometry)
    return generalized_sharpness(Operator(size, lambda b: matrix @ b, dtype=dtype, shapes=shapes), geometry)


@pytest.mark.parametrize("geometry", ["euclidean", "linf", "spectral", "blocks"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e20, 1e-20])
@pytest.mark.parametrize("size", [4, 150])
def test_generalized_sharpness_has_the_unit_of_the_loss(
    size: int, scale: float, dtype: torch.dtype, geometry: str
) -> None:
    """Also without a matrix at hand, where everything is computed in the operator's precision."""
    factor = 2.0 ** round(torch.log2(torch.tensor(scale, dtype=torch.float64)).item())
    for dense in (True, False):
        plain, other = (measured(size, f, dtype, geometry, dense) for f in (1.0, factor))
        assert other.lower == pytest.approx(factor * plain.lower, rel=1e-5)
        assert other.upper == pytest.approx(factor * plain.upper, rel=1e-5)
        assert other.lower <= other.upper
