"""Symmetric matrices with known spectra."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def with_spectrum(values: object, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix with these eigenvalues in a random orthonormal frame."""
    diagonal = torch.as_tensor(np.asarray(values, dtype=float))
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(diagonal), len(diagonal), generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(square).Q
    matrix = (frame * diagonal) @ frame.T
    return ((matrix + matrix.T) / 2).to(dtype)


def like_a_hessian(size: int, seed: int) -> np.ndarray:
    """A few outliers, a bulk that decays to zero, a small negative tail."""
    rng = np.random.default_rng(seed)
    outliers = 10 + 40 * rng.random(8)
    bulk = 8 / np.arange(1, size - 27) * np.abs(rng.normal(size=size - 28))
    return np.concatenate([outliers, bulk, -np.abs(rng.normal(size=20))])
