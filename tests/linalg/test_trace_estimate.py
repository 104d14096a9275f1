from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum

from edgescope.errors import InputError
from edgescope.linalg import Operator, frobenius, trace


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_covers_the_exact_trace_and_is_unbiased(dtype: torch.dtype) -> None:
    matrix = with_spectrum(like_a_hessian(200, 0), 0, dtype)
    exact = float(matrix.double().trace())
    estimates = [trace(matrix, num_matvecs=60, seed=seed) for seed in range(60)]
    scores = np.array([(e.value - exact) / e.error for e in estimates])
    assert all(e.products == 60 and e.method == "hutch++" for e in estimates)
    assert np.mean(np.abs(scores) < 2.3) > 0.9
    assert 0.7 < np.std(scores) < 1.5
    assert abs(np.mean([e.value for e in estimates]) - exact) < 4 * np.std([e.value for e in estimates]) / 60**0.5


def test_beats_plain_sampling_by_far_where_outliers_dominate() -> None:
    matrix = with_spectrum(like_a_hessian(300, 1), 1)
    signs = torch.randint(0, 2, (300, 4000), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    plain = float(torch.einsum("ij,ik,kj->j", signs, matrix, signs).std()) / 60**0.5
    ours = [trace(matrix, num_matvecs=60, seed=seed) for seed in range(20)]
    assert np.std([e.value for e in ours]) < plain / 4
    assert np.mean([e.error for e in ours]) < plain / 4


def test_low_rank_is_exact_from_few_products() -> None:
    estimate = trace(with_spectrum([7, 3, -2, *[0] * 97], 0), num_matvecs=15)
    assert estimate.value == pytest.approx(8, abs=1e-9)
    assert estimate.error < 1e-9


def test_small_operators_are_summed_and_blocks_do_not_matter() -> None:
    matrix = with_spectrum(np.linspace(-1, 3, 12), 0)
    estimate = trace(matrix, num_matvecs=12)
    assert (estimate.method, estimate.products) == ("exact", 12)
    assert 0 < estimate.error == estimate.rounding < 1e-13
    assert estimate.value == pytest.approx(float(matrix.trace()))
    large = with_spectrum(like_a_hessian(100, 0), 0)
    assert trace(large, block=1).value == pytest.approx(trace(large, block=7).value, rel=1e-12)
    widths: list[int] = []
    trace(Operator(100, lambda b: (widths.append(b.shape[1]), large @ b)[1]), num_matvecs=60, block=7)
    assert max(widths) == 7
    assert sum(widths) == 60


def test_zero_is_zero() -> None:
    estimate = trace(torch.zeros(100, 100), num_matvecs=9)
    assert (estimate.value, estimate.error) == (0.0, 0.0)


@pytest.mark.parametrize("options", [{"num_matvecs": 5}, {"block": 0}])
def test_bad_trace_input_is_one_clear_line(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}={next(iter(options.values()))}") as caught:
        trace(torch.eye(3), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("num_matvecs", "spent"), [(6, 6), (8, 6), (9, 9), (59, 57), (61, 60)])
def test_no_more_products_are_spent_than_asked_for(num_matvecs: int, spent: int) -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    assert trace(matrix, num_matvecs=num_matvecs).products == spent
    assert frobenius(matrix, num_matvecs=num_matvecs).products == spent


@pytest.mark.parametrize(("num_matvecs", "method"), [(99, "hutch++"), (100, "exact")])
def test_an_operator_that_the_products_span_is_summed_exactly(num_matvecs: int, method: str) -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    assert trace(matrix, num_matvecs=num_matvecs).method == frobenius(matrix, num_matvecs=num_matvecs).method == method
