"""Operators of 1 to 8 rows, of every rank and size of values, and what no precision can hold."""

from __future__ import annotations

import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg import (
    DiagonalMetric,
    EigenTracker,
    EigenvalueBound,
    Operator,
    frobenius,
    spectrum,
    top_eigenpairs,
    trace,
)

KINDS = ["general", "zero", "rank one", "negative rank one", "identity", "two values", "diagonal", "twelve decades"]
SCALES = [1.0, 1e20, 1e-20]
DTYPES = [torch.float64, torch.float32]


def matrix_of(kind: str, size: int, seed: int) -> Tensor:
    """A symmetric float64 matrix with entries around 1."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(size, size, generator=generator, dtype=torch.float64)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    spectra = {
        "general": torch.linalg.eigvalsh(square + square.T),
        "zero": torch.zeros(size),
        "identity": torch.ones(size),
        "two values": torch.where(torch.arange(size) < size // 2, 1.0, -1.0),
        "twelve decades": 10.0 ** torch.linspace(0, -12, size),
    }
    if kind in spectra:
        return with_spectrum(spectra[kind], seed)
    if kind == "diagonal":
        return torch.diag(vector)
    return torch.outer(vector, vector) * (-1 if kind.startswith("negative") else 1)


def ends(values: Tensor, k: int, which: str) -> Tensor:
    """The k largest, the k smallest, or both, of ascending values, in descending order."""
    values = values.flip(0)
    return {"largest": values[:k], "smallest": values[-k:], "both": torch.cat([values[:k], values[-k:]])}[which]


def check(found: Tensor, exact: Tensor, matrix: Tensor) -> None:
    """Up to the rounding of a dense solver in the matrix's precision, some 10 rows eps ||H||."""
    rounding = 10 * len(matrix) * torch.finfo(matrix.dtype).eps * float(torch.linalg.matrix_norm(matrix.double(), 2))
    assert float((found - exact).abs().max()) <= rounding


@settings(max_examples=150)
@given(
    size=st.integers(1, 8),
    number=st.integers(1, 8),
    which=st.sampled_from(["largest", "smallest", "both"]),
    dtype=st.sampled_from(DTYPES),
    updates=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(SCALES)), min_size=1, max_size=8),
    seed=st.integers(0, 10_000),
)
def test_a_tracker_gives_all_values_of_a_small_operator_however_it_changes(
    size: int, number: int, which: str, dtype: torch.dtype, updates: list[tuple[str, float]], seed: int
) -> None:
    k = min(number, size // 2 if which == "both" else size)
    if k == 0:
        which, k = "largest", 1
    tracker = EigenTracker(torch.eye(size), k, which=which)
    for step, (kind, scale) in enumerate(updates):
        matrix = (scale * matrix_of(kind, size, seed + step)).to(dtype)
        pairs = tracker.update(matrix)
        exact = ends(torch.linalg.eigvalsh(matrix.double()), k, which)
        check(pairs.values, exact, matrix)
        assert bool(pairs.converged.all())
        assert bool(((pairs.values - exact).abs() <= pairs.error).all())
        assert pairs.products == size
        vectors = pairs.vectors.double()
        check(vectors.T @ vectors, torch.eye(vectors.shape[1], dtype=torch.float64), torch.eye(size, dtype=dtype))
        check(torch.linalg.vector_norm(matrix.double() @ vectors - vectors * pairs.values, dim=0), 0 * exact, matrix)


@settings(max_examples=100)
@given(
    size=st.integers(1, 8),
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from(SCALES),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 10_000),
)
def test_every_estimate_is_right_on_a_small_operator(
    size: int, kind: str, scale: float, dtype: torch.dtype, seed: int
) -> None:
    matrix = (scale * matrix_of(kind, size, seed)).to(dtype)
    exact = torch.linalg.eigvalsh(matrix.double())
    for k in range(1, size + 1):
        check(top_eigenpairs(matrix, k, seed=seed).values, ends(exact, k, "largest"), matrix)
    check(torch.tensor(trace(matrix, seed=seed).value, dtype=torch.float64), exact.sum(), matrix)
    check(torch.tensor(frobenius(matrix, seed=seed).value, dtype=torch.float64), exact.norm(), matrix)
    check(spectrum(matrix, method="exact").nodes, exact, matrix)
    sampled = spectrum(matrix, seed=seed)
    check(sampled.nodes.clamp(exact[0], exact[-1]), sampled.nodes, matrix)
    bound = EigenvalueBound(Operator(size, lambda block: matrix @ block, dtype=dtype), seed=seed).extend(60)
    rounding = 20 * torch.finfo(dtype).eps * float(exact.abs().max())
    assert bound.lower - rounding <= float(exact[-1]) <= bound.upper + rounding


@pytest.mark.parametrize("size", [17, 24])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["largest", "both"])
def test_a_history_with_more_vectors_than_the_space_has_dimensions(size: int, dtype: torch.dtype, which: str) -> None:
    k = size if which == "largest" else size // 2
    tracker = EigenTracker(torch.eye(size), k, which=which)
    for step in range(5):
        matrix = matrix_of("general", size, step).to(dtype)
        check(tracker.update(matrix).values, ends(torch.linalg.eigvalsh(matrix.double()), k, which), matrix)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_unit_of_the_loss_changes_nothing_but_the_unit_of_the_result(scale: float, dtype: torch.dtype) -> None:
    plain = with_spectrum(like_a_hessian(150, 0), 0, torch.float64).to(dtype)
    factor = 2.0 ** round(torch.log2(torch.tensor(scale, dtype=torch.float64)).item())  # so that nothing is rounded
    one, other = top_eigenpairs(plain, 3), top_eigenpairs(factor * plain, 3)
    assert torch.equal(other.values, factor * one.values)
    assert torch.equal(other.vectors, one.vectors)
    torch.testing.assert_close(other.residuals, factor * one.residuals, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.error, factor * one.error, rtol=1e-12, atol=0)
    assert other.products == one.products
    bounds = [
        EigenvalueBound(Operator(150, lambda b, m=m: m @ b, dtype=dtype)).extend(20) for m in (plain, factor * plain)
    ]
    assert bounds[1].upper == pytest.approx(factor * bounds[0].upper, rel=1e-12)


@pytest.mark.parametrize("size", [6, 40])
def test_an_eigenvalue_beyond_the_precision_is_one_clear_line(size: int) -> None:
    ones = torch.full((size, size), 1e38)
    for measure in (top_eigenpairs, lambda matrix: EigenTracker(matrix).update()):
        with pytest.raises(InputError, match=r"not finite|beyond the range of torch.float32") as caught:
            measure(ones)
        assert "\n" not in str(caught.value)
    assert float(top_eigenpairs(ones.double()).values[0]) == pytest.approx(size * 1e38, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_lies_below_the_normal_numbers_has_an_error_as_large(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    matrix = torch.diag(torch.tensor([3.0, 1.0], dtype=dtype)) * tiny * torch.finfo(dtype).eps
    pairs = top_eigenpairs(matrix)
    assert abs(float(pairs.values[0]) - float(matrix[0, 0].double())) <= float(pairs.error[0])
    assert float(pairs.error[0]) >= tiny * torch.finfo(dtype).eps


def test_a_metric_of_a_small_operator() -> None:
    matrix, entries = matrix_of("general", 4, 0), torch.tensor([1e-6, 1.0, 2.0, 1e6], dtype=torch.float64)
    tracker = EigenTracker(matrix, 4, metric=DiagonalMetric(entries))
    exact = torch.linalg.eigvalsh(matrix / entries.sqrt() / entries.sqrt()[:, None])
    for _ in range(4):
        torch.testing.assert_close(tracker.update().values, exact.flip(0), rtol=1e-9, atol=1e-9)


def test_fewer_products_than_rows_are_kept_to() -> None:
    matrix = matrix_of("general", 8, 0)
    tracker = EigenTracker(matrix, 1, max_products=4)
    for _ in range(6):
        pairs = tracker.update()
        assert pairs.products <= 4
    assert float(pairs.values[0]) <= float(torch.linalg.eigvalsh(matrix)[-1]) + 1e-12
    small = top_eigenpairs(matrix, 1, basis=5)
    assert float(small.values[0]) == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)
