from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum

from edgescope.errors import InputError
from edgescope.linalg import frobenius


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_covers_the_exact_norm(dtype: torch.dtype) -> None:
    matrix = with_spectrum(like_a_hessian(200, 0), 0, dtype)
    exact = np.linalg.norm(matrix.double().numpy())
    # The docstring says that two errors cover 95.4%; of 120 draws, 3 standard deviations below are 89.7%.
    estimates = [frobenius(matrix, num_matvecs=30, seed=seed) for seed in range(120)]
    scores = np.array([(e.value - exact) / e.error for e in estimates])
    assert all((e.products, e.cost.products, e.method) == (30, 30, "hutch++") for e in estimates)
    assert np.mean(np.abs(scores) < 2) > 0.897
    assert np.median(np.abs(scores)) > 0.2  # and no more than a few times as large as they need be
    values = np.array([e.value for e in estimates])
    assert abs(values.mean() - exact) < 4 * values.std() / 120**0.5
    assert values.std() < 0.02 * exact


@pytest.mark.parametrize("seed", range(3))
def test_small_operators_and_those_of_low_rank_are_exact(seed: int) -> None:
    matrix = with_spectrum(np.linspace(-2, 3, 15), seed)
    small = frobenius(matrix, num_matvecs=15, seed=seed)
    assert small.value == pytest.approx(float(torch.linalg.matrix_norm(matrix)), rel=1e-12)
    assert (small.method, small.products) == ("exact", 15)
    assert 0 < small.error < 1e-13
    low = frobenius(with_spectrum([3, -4, *[0] * 98], seed), num_matvecs=15, seed=seed)
    assert low.value == pytest.approx(5)
    assert low.error < 1e-9


def test_blocks_do_not_matter_and_zero_is_zero() -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    assert frobenius(matrix, block=1).value == pytest.approx(frobenius(matrix, block=7).value, rel=1e-12)
    zero = frobenius(torch.zeros(100, 100), num_matvecs=9)
    assert (zero.value, zero.error) == (0.0, 0.0)


def test_one_probe_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="num_matvecs=3") as caught:
        frobenius(torch.eye(3), num_matvecs=3)
    assert "\n" not in str(caught.value)
