"""Spectral sums, cumulative shares, deflation, growing depth and merging of spectra."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from dense_cases import like_a_hessian, with_spectrum

from edgescope.errors import InputError, MemoryBudgetError
from edgescope.linalg import Operator, Spectrum, spectrum

SUMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "volume": lambda a: (1 - 0.02 * a).abs().log(),
    "square": lambda a: a**2,
    "smoothed step": lambda a: torch.sigmoid(a - 1),
}


@pytest.mark.parametrize("name", SUMS)
def test_spectral_sums_agree_with_the_dense_ones_within_their_errors(name: str) -> None:
    values, function = like_a_hessian(200, 3), SUMS[name]
    matrix = with_spectrum(values, 3)
    true = float(function(torch.as_tensor(values)).sum())
    exact = spectrum(matrix, method="exact").sum(function)
    assert exact.value == pytest.approx(true)
    assert abs(exact.value - true) < 3 * exact.error
    assert exact.error < 1e-12 * max(1.0, abs(true))
    scores = []
    for seed in range(8):
        found = spectrum(matrix, probes=10, steps=40, seed=seed).sum(function)
        assert 0 < found.error < math.inf
        scores.append((found.value - true) / found.error)
    assert np.median(np.abs(scores)) < 1.5
    assert abs(np.mean(scores)) < 1.2


def test_standard_errors_are_the_scatter_over_seeds() -> None:
    matrix = with_spectrum(like_a_hessian(150, 0), 0)
    found = [spectrum(matrix, probes=8, steps=20, seed=seed) for seed in range(30)]
    scatter = np.std([one.trace for one in found], ddof=1)
    assert 0.7 < np.sqrt(np.mean([one.trace_error**2 for one in found])) / scatter < 1.4
    x = torch.tensor([0.5], dtype=torch.float64)
    scatter = np.std([float(one.density(x, 2.0)) for one in found], ddof=1)
    assert 0.7 < np.sqrt(np.mean([float(one.density_error(x, 2.0)) ** 2 for one in found])) / scatter < 1.5


def test_the_error_of_a_figure_that_moves_with_depth_is_more_than_the_scatter() -> None:
    values, x = like_a_hessian(150, 0), torch.tensor([0.5], dtype=torch.float64)
    found = [spectrum(with_spectrum(values, 0), probes=8, steps=20, seed=seed) for seed in range(30)]
    off = np.array([float(one.cumulative(x)) - np.mean(values <= 0.5) for one in found])
    assert np.median([float(one.cumulative_error(x)) for one in found]) > 1.5 * np.std(off, ddof=1)
    for one in found:
        assert one.half is not None
        drift = abs(float(one.cumulative(x) - one.half.cumulative(x)))
        assert drift <= float(one.cumulative_error(x)) < drift + 0.1


def test_a_single_probe_has_the_error_that_many_seeds_show() -> None:
    matrix = with_spectrum(like_a_hessian(150, 0), 0)
    found = [spectrum(matrix, probes=1, steps=20, seed=seed) for seed in range(60)]
    scatter = np.std([one.trace for one in found], ddof=1)
    assert 0.8 < np.sqrt(np.mean([one.trace_error**2 for one in found])) / scatter < 1.7


def test_log_determinant_trace_and_a_singular_matrix() -> None:
    values = np.array([4.0, -2.0, 0.5, 0.25])
    found = spectrum(with_spectrum(values, 0), method="exact")
    assert found.log_determinant == pytest.approx(0.0, abs=1e-12)
    assert abs(found.trace - 2.75) <= 3 * found.trace_error < 1e-13
    assert found.half is None
    assert abs(found.log_determinant) <= 3 * found.log_determinant_error < 1e-13
    null = spectrum(torch.diag(torch.tensor([1.0, 1e-20]).double()), method="exact")  # null as far as rounding tells
    assert null.log_determinant_error > 5
    assert spectrum(torch.diag(torch.tensor([1.0, 0.0])), method="exact").log_determinant == -math.inf
    many = spectrum(with_spectrum(np.linspace(1, 3, 100), 0), probes=30, steps=15)
    assert many.log_determinant == pytest.approx(
        np.log(np.linspace(1, 3, 100)).sum(), abs=4 * many.log_determinant_error
    )
    assert spectrum(torch.eye(9).double(), probes=1).log_determinant_error < 1e-13  # exhausted after one step


def test_cumulative_shares_count_eigenvalues() -> None:
    found = spectrum(with_spectrum([-1.0, 2.0, 2.5, 7.0], 0), method="exact")
    shares = found.cumulative(torch.tensor([-2.0, 0.0, 2.2, 3.0, 8.0]))
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64))
    sampled = spectrum(with_spectrum(np.r_[np.full(60, 3.0), np.full(140, -1.0)], 0), probes=50, steps=4)
    x = torch.tensor([0.0])
    assert float(sampled.cumulative(x)) == pytest.approx(0.7, abs=4 * float(sampled.cumulative_error(x)))


def test_half_the_depth_is_the_quadrature_of_half_the_steps() -> None:
    matrix = with_spectrum(like_a_hessian(120, 1), 1)
    deep, shallow = spectrum(matrix, probes=3, steps=20), spectrum(matrix, probes=3, steps=10)
    assert deep.half is not None
    assert deep.half.steps == 10
    for mine, fresh in zip(deep.half.measures(), shallow.measures(), strict=True):
        torch.testing.assert_close(mine[0], fresh[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(mine[1], fresh[1], atol=1e-9, rtol=0)


def test_depth_grows_until_the_caller_stops_it_and_wastes_no_product() -> None:
    matrix = with_spectrum(like_a_hessian(300, 2), 2)
    asked: list[int] = []

    def stop_when(found: Spectrum) -> bool:
        asked.append(found.steps)
        return found.steps >= 40

    grown = spectrum(matrix, probes=3, steps=10, max_steps=100, stop_when=stop_when)
    direct = spectrum(matrix, probes=3, steps=40)
    assert asked == [10, 20, 40]
    assert (grown.steps, grown.products) == (40, 120)
    torch.testing.assert_close(grown.nodes, direct.nodes, atol=1e-8, rtol=0)
    capped = spectrum(matrix, probes=2, steps=10, max_steps=25, stop_when=lambda _: False)
    assert (capped.steps, capped.products) == (25, 50)


def test_deflation_counts_the_top_exactly_and_shrinks_the_error() -> None:
    values = np.r_[[900.0, 700.0, 500.0], np.random.default_rng(0).uniform(-1, 1, 197)]
    matrix = with_spectrum(values, 0)
    plain = [spectrum(matrix, probes=6, steps=30, seed=seed) for seed in range(6)]
    better = [spectrum(matrix, probes=6, steps=30, deflate=3, seed=seed) for seed in range(6)]
    for one in better:
        assert float(one.weights.sum()) == pytest.approx(1)
        np.testing.assert_allclose(one.nodes[one.nodes > 100].unique().numpy(), [500, 700, 900], rtol=1e-3)
        assert float(one.weights[one.nodes > 100].sum()) * 200 == pytest.approx(3)
        assert one.trace == pytest.approx(values.sum(), abs=4 * one.trace_error + 0.5)
    assert np.mean([one.trace_error for one in better]) < 0.1 * np.mean([one.trace_error for one in plain])


def test_merging_probes_is_sampling_them_together() -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    parts = [spectrum(matrix, probes=probes, steps=12, seed=seed) for seed, probes in enumerate((3, 5))]
    merged = parts[0].merge(parts[1])
    assert (merged.probes, merged.products, merged.cost.products) == (8, 96, 96)
    assert float(merged.weights.sum()) == pytest.approx(1)
    assert merged.trace == pytest.approx((3 * parts[0].trace + 5 * parts[1].trace) / 8)
    traces = [100 * float(nodes @ weights) for part in parts for nodes, weights in part.measures()]
    assert np.std(traces, ddof=1) / 8**0.5 <= merged.trace_error
    together = spectrum(matrix, probes=8, steps=12, seed=9)
    assert merged.trace_error < 4 * together.trace_error
    assert merged.half is not None
    assert merged.half.probes == 8
    assert torch.equal(merged.merge().weights, merged.weights)


def test_merging_exact_spectra_of_mini_batches_has_their_spread_as_error() -> None:
    one, two = (spectrum(torch.diag(torch.tensor(values)), method="exact") for values in ([1.0, 3.0], [2.0, 4.0]))
    merged = one.merge(two)
    assert merged.nodes.tolist() == [1, 2, 3, 4]
    # Student's t of one degree of freedom, at 68.3%: the tangent of 0.683 of a right angle
    assert (merged.trace, merged.trace_error) == (pytest.approx(5), pytest.approx(math.tan(0.6827 * math.pi / 2), 1e-3))
    spread = [spectrum(torch.diag(torch.tensor([0.0, v]).double()), method="exact") for v in (1.0, 3.0, 2.0, 6.0)]
    four = spread[0].merge(*spread[1:])
    assert four.trace_error == pytest.approx(scipy.stats.t.ppf(0.84134, 3) * np.std([1, 3, 2, 6], ddof=1) / 2, rel=1e-4)


def test_merging_samples_of_mini_batches_has_their_spread_as_error() -> None:
    matrices = [with_spectrum(scale * like_a_hessian(100, 0), 0) for scale in (0.2, 1.0, 3.0, 0.5)]
    merged = spectrum(matrices[0], seed=0).merge(*(spectrum(m, seed=i + 1) for i, m in enumerate(matrices[1:])))
    traces = [float(m.trace()) for m in matrices]
    assert merged.trace_error == pytest.approx(1.2 * np.std(traces, ddof=1) / 2, rel=0.3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spectrum(torch.eye(3)).merge(spectrum(torch.eye(4))), "merging spectra of different size .3, 4."),
        (lambda: spectrum(torch.eye(3)).merge(spectrum(torch.eye(3), method="exact")), "different method .*slq, exact"),
        (lambda: spectrum(torch.eye(3), method="slqq"), "unknown method 'slqq'.*try 'slq'"),
        (lambda: spectrum(torch.eye(3), probes=1.5), "probes=1.5"),
        (lambda: spectrum(torch.eye(3), deflate=3), "deflate=3 for an operator of size 3"),
        (lambda: spectrum(torch.eye(3), deflate=-1), "deflate=-1"),
        (lambda: spectrum(torch.eye(3)).sum(lambda a: a.mean()), r"returned shape \(\) for eigenvalues"),
        (lambda: spectrum(torch.eye(3)).density(torch.tensor([math.nan])), "NaN or infinite"),
        (lambda: spectrum(torch.eye(3)).density(torch.zeros(2), broadening=math.nan), "broadening of nan"),
    ],
)
def test_bad_sums_and_merges_are_one_clear_line(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_memory_is_estimated_before_it_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.memory.available", lambda device="cpu": 10**6)
    operator = Operator(1000, lambda block: pytest.fail("no product may be spent"))
    with pytest.raises(MemoryBudgetError, match=r"dense matrix of size 1000 needs an estimated 30.5 MiB.*slq"):
        spectrum(operator, method="exact")
