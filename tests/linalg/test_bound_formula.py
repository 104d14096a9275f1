"""The bound on the largest eigenvalue in closed form, where the start vector's share of its eigenvector is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgescope.linalg.bound import _beyond


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [2, 3, 6])
def test_with_the_true_share_it_is_the_largest_eigenvalue_one_step_before_the_end(size: int, seed: int) -> None:
    """The eigenvector of a tridiagonal matrix has the orthogonal polynomials at the eigenvalue as its coordinates."""
    rng = np.random.default_rng(seed)
    diagonal, beside = rng.normal(size=size), rng.uniform(0.5, 1.5, size - 1)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    weight = 1 / abs(float(vectors[0, -1]))
    found = _beyond(diagonal[:-1].tolist(), beside.tolist(), weight)
    assert found == pytest.approx(values[-1], rel=1e-6, abs=1e-6)
    assert _beyond(diagonal[:-1].tolist(), beside.tolist(), 2 * weight) > values[-1]
