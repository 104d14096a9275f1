"""torch's Muon in the precision of its parameters, for tests of its update rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


def polynomial_of_singular_values(
    u: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """What torch's Newton-Schulz iteration is in exact arithmetic, by singular values."""
    left, s, right = torch.linalg.svd(u, full_matrices=False)
    s = s / max(float(u.norm()), eps)
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return left @ torch.diag(s) @ right


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's Muon with its bfloat16 iteration replaced by the exact one; everything else stays torch's."""
    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", polynomial_of_singular_values)
