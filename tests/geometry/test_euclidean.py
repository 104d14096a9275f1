"""The Euclidean norm, its dual and its steepest direction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgescope.geometry import GEOMETRIES, Euclidean

VECTORS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8).map(
    lambda x: torch.tensor(x, dtype=torch.float64).round(decimals=6)
)


@given(VECTORS, st.integers(0, 2**31))
def test_no_unit_direction_beats_the_steepest(g: torch.Tensor, seed: int) -> None:
    geometry = Euclidean()
    d = torch.randn(len(g), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    d = d / geometry.norm(d)
    best = float(g @ geometry.steepest(g))
    assert best == pytest.approx(float(geometry.dual_norm(g)))
    assert float(g @ d) <= best * (1 + 1e-9)


def test_values() -> None:
    geometry = GEOMETRIES.build("euclidean")
    assert float(geometry.norm(torch.tensor([3.0, -4.0]))) == 5
    assert float(geometry.dual_norm(torch.tensor([3.0, -4.0]))) == 5
    assert geometry.steepest(torch.tensor([3.0, -4.0])).tolist() == pytest.approx([0.6, -0.8])
    assert geometry.steepest(torch.zeros(2)).tolist() == [0, 0]
