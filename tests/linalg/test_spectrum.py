from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import InputError, MemoryBudgetError
from edgescope.linalg import Operator, from_matrix, spectrum, to_matrix
from edgescope.linalg import lanczos_quadrature as quadrature_module

DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_spectrum_is_the_dense_one(dtype: torch.dtype) -> None:
    values = like_a_hessian(150, 0)
    matrix = with_spectrum(values, 0, dtype)
    found = spectrum(Operator(150, lambda block: matrix @ block, dtype=dtype), method="exact")
    np.testing.assert_allclose(found.nodes.numpy(), np.sort(values), atol=1e-4 if dtype == torch.float32 else 1e-11)
    assert found.trace == pytest.approx(values.sum(), rel=1e-5)
    assert (found.products, found.size) == (150, 150)
    assert abs(found.trace - values.sum()) < 3 * found.trace_error  # rounding alone
    assert found.trace_error < (1e-4 if dtype == torch.float32 else 1e-12)
    at_hand = spectrum(matrix, method="exact")
    assert at_hand.products == 0
    torch.testing.assert_close(at_hand.nodes, found.nodes, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.weights, torch.full((150,), 1 / 150, dtype=torch.float64))


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=40)
def test_quadrature_is_exact_for_polynomials_up_to_its_degree(size: int, steps: int, seed: int) -> None:
    matrix = with_spectrum(np.random.default_rng(seed).uniform(-1, 1, size), seed)
    probe: list[torch.Tensor] = []

    def apply(block: torch.Tensor) -> torch.Tensor:
        probe.append(block.clone())
        return matrix @ block

    found = spectrum(Operator(size, apply), probes=1, steps=steps, seed=seed)
    start = probe[0][:, 0]
    power = start.clone()
    for degree in range(2 * min(steps, size)):
        assert float(found.nodes**degree @ found.weights) == pytest.approx(float(start @ power), abs=1e-10)
        power = matrix @ power


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_and_counts_agree_with_the_dense_spectrum_within_their_error(dtype: torch.dtype) -> None:
    values = like_a_hessian(200, 1)
    matrix, scores = with_spectrum(values, 1, dtype), []
    for seed in range(10):
        found = spectrum(matrix, probes=8, steps=30, seed=seed)
        assert found.products == 240
        assert float(found.weights.sum()) == pytest.approx(1)
        assert float(found.nodes[-1]) == pytest.approx(values.max(), rel=1e-5)
        scores.append((found.trace - values.sum()) / found.trace_error)
    assert np.median(np.abs(scores)) < 1.5
    assert np.abs(np.mean(scores)) < 1.5


def test_many_probes_give_the_share_of_eigenvalues_in_a_region() -> None:
    values = np.r_[np.full(30, 5.0), np.full(70, -1.0)]
    found = spectrum(with_spectrum(values, 0), probes=200, steps=5)
    assert float(found.weights[found.nodes > 0].sum()) == pytest.approx(0.3, abs=0.02)
    assert found.products <= 2 * 200  # two distinct eigenvalues: every probe's space is complete after two steps


@pytest.mark.parametrize("method", ["slq", "exact"])
def test_density_integrates_to_one_and_peaks_at_the_bulk(method: str) -> None:
    found = spectrum(with_spectrum([*np.full(90, 1.0), *np.linspace(4, 6, 10)], 0), method=method)
    x = torch.linspace(-20, 30, 40_001, dtype=torch.float64)
    for width in (None, 0.3):
        density = found.density(x, width)
        assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-6)
        assert float(x[density.argmax()]) == pytest.approx(1, abs=0.1)
    assert float(torch.trapezoid(found.density(x, 0.3) * x, x)) * 100 == pytest.approx(found.trace, rel=1e-6)


def test_probes_advance_side_by_side_and_in_turns_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    widths: list[int] = []
    operator = Operator(100, lambda block: (widths.append(block.shape[1]), matrix @ block)[1])
    together = spectrum(operator, probes=5, steps=10)
    assert widths == [5] * 10
    monkeypatch.setattr(quadrature_module, "_GROUP_BYTES", 2 * 10 * 100 * 8)
    widths.clear()
    turns = spectrum(operator, probes=5, steps=10)
    assert widths == [2] * 20 + [1] * 10
    torch.testing.assert_close(together.nodes, turns.nodes)
    assert torch.equal(together.probe.bincount(), torch.full((5,), 10))


def test_zero_one_and_a_single_number() -> None:
    zero = spectrum(torch.zeros(20, 20))
    assert zero.trace == 0
    assert bool((zero.nodes == 0).all())
    one = spectrum(torch.eye(20, dtype=torch.float64), probes=1)
    assert one.nodes.tolist() == [pytest.approx(1)]
    assert one.trace_error < 1e-14  # one step exhausts the identity; another operator is not known after one
    assert spectrum(torch.diag(torch.tensor([1.0, 2.0]).double()), probes=1, steps=1).trace_error == float("inf")
    assert spectrum(torch.tensor([[2.5]])).trace == pytest.approx(2.5)


def test_dense_matrix_from_products() -> None:
    matrix = with_spectrum(like_a_hessian(150, 0), 0)
    torch.testing.assert_close(to_matrix(from_matrix(matrix), block=40), matrix)
    torch.testing.assert_close(to_matrix(matrix.float()), matrix, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: spectrum(torch.eye(3), method="exac"), "unknown method 'exac'.*try 'exact'"),
        (lambda: spectrum(torch.eye(3), probes=0), "probes=0"),
        (lambda: spectrum(torch.eye(3), steps=0), "steps=0"),
        (lambda: spectrum(torch.eye(3)).density(torch.zeros(2), broadening=-1.0), "broadening of -1"),
    ],
)
def test_bad_spectrum_input_is_one_clear_line(call: object, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_before_it_is_spent() -> None:
    huge = Operator(10**8, lambda block: pytest.fail("no product may be spent"))
    with pytest.raises(MemoryBudgetError, match="dense matrix of size 100000000 needs"):
        spectrum(huge, method="exact")
    with pytest.raises(MemoryBudgetError, match="may be used"):
        spectrum(Operator(10**12, lambda block: block))
