from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from dense_cases import like_a_hessian, with_spectrum
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from edgescope.errors import InputError
from edgescope.linalg import DiagonalMetric, Eigenpairs, Operator, from_matrix, top_eigenpairs

DTYPES = [torch.float64, torch.float32]


def ends(values: np.ndarray, k: int, which: str) -> np.ndarray:
    values = np.sort(values)[::-1]
    return {"largest": values[:k], "smallest": values[-k:], "both": np.r_[values[:k], values[-k:]]}[which]


def check_pairs(pairs: Eigenpairs, matrix: torch.Tensor, tol: float) -> None:
    """Unit vectors, residuals as stated, and those of converged pairs within ``tol`` of the matrix's norm."""
    vectors, exact = pairs.vectors.double(), matrix.double()
    slack = 100 * torch.finfo(matrix.dtype).eps * (1 + float(exact.abs().max()) * len(exact) ** 0.5)
    residuals = torch.linalg.vector_norm(exact @ vectors - vectors * pairs.values, dim=0)
    torch.testing.assert_close(pairs.residuals, residuals, atol=slack, rtol=1e-3)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(vectors.shape[1]).double(), atol=slack, rtol=0)
    norm = float(torch.linalg.matrix_norm(exact, 2))
    assert bool((residuals[pairs.converged] <= tol * norm + slack).all())
    assert bool((pairs.values.diff() <= 0).all())
    assert pairs.cost.products == pairs.products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_a_dense_solver(which: str, seed: int, dtype: torch.dtype) -> None:
    matrix = with_spectrum(like_a_hessian(250, seed), seed, dtype)
    pairs = top_eigenpairs(matrix, 3, which=which, tol=1e-4, seed=seed)
    exact = ends(scipy.linalg.eigh(matrix.double().numpy(), eigvals_only=True), 3, which)
    assert bool(pairs.converged.all())
    assert np.abs(pairs.values.numpy() - exact).max() < 1e-5 * np.abs(exact).max()
    check_pairs(pairs, matrix, 1e-4)


@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_spends_no_more_products_than_arpack(k: int, seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(600, seed), seed)
    counted = from_matrix(matrix)
    product = LinearOperator(
        matrix.shape, lambda v: (counted @ torch.from_numpy(v.reshape(-1).copy())).numpy(), dtype=float
    )
    start = np.random.default_rng(seed).normal(size=600)
    arpack = eigsh(product, k=k, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
    pairs = top_eigenpairs(matrix, k, seed=seed)
    assert pairs.products <= 1.15 * counted.products
    assert np.abs(pairs.values.numpy() - np.sort(arpack)[::-1]).max() < 2e-3


@given(st.integers(1, 30), st.integers(0, 10_000), st.sampled_from(["largest", "smallest", "both"]), st.integers(1, 4))
@example(26, 927, "smallest", 4)  # of rank 17, so that a block of four has one new direction in the fifth product
@settings(max_examples=60)
def test_any_symmetric_matrix(size: int, seed: int, which: str, block: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(0, size + 1))
    factor = rng.normal(size=(size, rank)) * rng.choice([1e-3, 1, 1e3])
    matrix = torch.from_numpy((factor * rng.choice([-1.0, 1.0], size=rank)) @ factor.T)
    k = int(rng.integers(1, max(2, size // (2 if which == "both" else 1) + 1)))
    if which == "both" and 2 * k > size:
        return
    pairs = top_eigenpairs(matrix, k, which=which, tol=1e-6, block=block, seed=seed)
    exact = ends(np.linalg.eigvalsh(matrix.numpy()), k, which)
    assert bool(pairs.converged.all())
    assert np.abs(pairs.values.numpy() - exact).max() <= 1e-5 * max(np.abs(matrix.numpy()).max() * size, 1e-12)
    check_pairs(pairs, matrix, 1e-6)


MULTIPLE = [100] * 3 + [60] * 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("rest", [[], [1.0] * 10, list(np.linspace(30, 0, 200))])
def test_multiple_eigenvalues_are_counted_with_their_multiplicity(
    rest: list[float], block: int, dtype: torch.dtype
) -> None:
    pairs = top_eigenpairs(with_spectrum(MULTIPLE + rest, 3, dtype), 6, block=block)
    np.testing.assert_allclose(pairs.values.numpy(), MULTIPLE, rtol=1e-5)
    assert bool(pairs.converged.all())


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_within_one_percent_is_resolved(seed: int) -> None:
    crowd = [10.0, 9.98, 9.95, 9.93, 9.91, 9.9]
    pairs = top_eigenpairs(with_spectrum(crowd + list(np.linspace(8, -2, 250)), seed), 6, seed=seed)
    np.testing.assert_allclose(pairs.values.numpy(), crowd, rtol=1e-4)


def test_negative_outliers_larger_in_modulus_do_not_hide_the_largest() -> None:
    matrix = with_spectrum([-200, -150, 10, 9.95, 9.9, *np.linspace(5, -5, 200)], 1)
    np.testing.assert_allclose(top_eigenpairs(matrix, 3).values.numpy(), [10, 9.95, 9.9], rtol=1e-4)
    both = top_eigenpairs(matrix, 2, which="both").values.numpy()
    np.testing.assert_allclose(both, [10, 9.95, -150, -200], rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_matrix_and_the_identity_are_exact(dtype: torch.dtype) -> None:
    zero = top_eigenpairs(torch.zeros(80, 80, dtype=dtype), 3)
    assert bool(zero.converged.all())
    assert zero.values.tolist() == [0, 0, 0]
    one = top_eigenpairs(torch.eye(80, dtype=dtype), 3, which="both")
    np.testing.assert_allclose(one.values.numpy(), np.ones(6), rtol=1e-5)


def test_a_small_basis_restarts_and_still_converges() -> None:
    matrix = with_spectrum(np.linspace(1, 2, 300) ** 3, 2)
    exact = np.linspace(1, 2, 300)[::-1] ** 3
    small = top_eigenpairs(matrix, 2, basis=14, tol=1e-5, max_products=3000)
    assert small.products > 50
    assert bool(small.converged.all())
    np.testing.assert_allclose(small.values.numpy(), exact[:2], rtol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_good_seeds_save_products_and_wrong_seeds_do_no_harm(dtype: torch.dtype) -> None:
    exact = with_spectrum(like_a_hessian(400, 5), 5)
    frame = torch.linalg.eigh(exact).eigenvectors.flip(1).to(dtype)
    cold = top_eigenpairs(exact.to(dtype), 4)
    warm = top_eigenpairs(exact.to(dtype), 4, start=cold)
    assert warm.products <= 0.6 * cold.products
    wrong = top_eigenpairs(exact.to(dtype), 4, start=frame[:, 10:14])
    np.testing.assert_allclose(wrong.values.numpy(), cold.values.numpy(), rtol=1e-4)
    assert bool(wrong.converged.all())
    short = top_eigenpairs(exact.to(dtype), 4, start=1e-30 * cold.vectors)
    assert short.products == warm.products
    one = top_eigenpairs(exact.to(dtype), 1, start=frame[:, 0])
    assert float(one.values[0]) == pytest.approx(float(cold.values[0]), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_metric_gives_the_generalised_eigenpairs(seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(150, seed), seed)
    entries = torch.rand(150, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 9 + 0.1
    pairs = top_eigenpairs(matrix, 3, metric=DiagonalMetric(entries), which="both", tol=1e-5)
    exact = scipy.linalg.eigh(matrix.numpy(), np.diag(entries.numpy()), eigvals_only=True)
    np.testing.assert_allclose(pairs.values.numpy(), ends(exact, 3, "both"), rtol=1e-6)
    v = pairs.vectors
    torch.testing.assert_close(v.T @ (entries[:, None] * v), torch.eye(6).double(), atol=1e-10, rtol=0)
    whitened = (matrix @ v - entries[:, None] * v * pairs.values) / entries.sqrt()[:, None]
    torch.testing.assert_close(pairs.residuals, torch.linalg.vector_norm(whitened, dim=0), atol=1e-9, rtol=0)
    again = top_eigenpairs(matrix, 3, metric=DiagonalMetric(entries), which="both", tol=1e-5, start=pairs)
    assert again.products < 0.7 * pairs.products


def test_errors_bound_what_they_are_said_to() -> None:
    for seed in range(5):
        matrix = with_spectrum(like_a_hessian(300, seed), seed)
        pairs = top_eigenpairs(matrix, 4, tol=1e-2)
        exact = np.sort(np.linalg.eigvalsh(matrix.numpy()))[::-1][:4]
        off = np.abs(pairs.values.numpy() - exact)
        assert (off <= 3 * pairs.error.numpy()).all()
        assert (pairs.error <= pairs.residuals + 1e-12).all()


def test_a_budget_too_small_is_kept_and_confessed() -> None:
    matrix = with_spectrum(np.linspace(1, 2, 400), 0)
    pairs = top_eigenpairs(matrix, 2, tol=1e-6, max_products=12)
    assert pairs.products <= 12
    assert not bool(pairs.converged.any())
    check_pairs(pairs, matrix, 1e-6)


def test_a_tolerance_below_the_precision_ends_at_rounding() -> None:
    matrix = with_spectrum(like_a_hessian(300, 0), 0, torch.float32)
    fine, strict = top_eigenpairs(matrix, 3, tol=1e-5), top_eigenpairs(matrix, 3, tol=1e-12)
    assert strict.products < fine.products + 30
    assert float(strict.residuals.max()) < 3e-5 * float(strict.values[0])


def test_products_that_are_not_symmetric_are_confessed_at_no_great_cost() -> None:
    values = like_a_hessian(300, 0)
    matrix = with_spectrum(values, 0)
    frame = torch.linalg.eigh(matrix).eigenvectors.flip(1)
    skewed = matrix + 1e-2 * (torch.outer(frame[:, 0], frame[:, 1]) - torch.outer(frame[:, 1], frame[:, 0]))
    pairs = top_eigenpairs(Operator(300, lambda block: skewed @ block), 2, tol=1e-6)
    assert pairs.products < 100
    assert not bool(pairs.converged.any())
    # The search takes H from one side of the diagonal or the other: the skew part shows once, or doubled.
    assert 0.9e-2 <= float(pairs.residuals.max()) <= 2.1e-2


def test_same_seed_same_bits_and_progress_is_told() -> None:
    matrix = with_spectrum(like_a_hessian(200, 0), 0, torch.float32)
    told: list[tuple[int, float]] = []
    first = top_eigenpairs(matrix, 2, progress=lambda products, worst: told.append((products, worst)))
    second = top_eigenpairs(matrix, 2)
    assert torch.equal(first.vectors, second.vectors)
    assert [products for products, _ in told] == sorted(products for products, _ in told)
    assert told[-1][0] == first.products
    assert told[-1][1] <= 1e-3 < told[0][1]


def test_an_object_with_an_operator_is_asked_for_it() -> None:
    class Thing:
        def operator(self) -> Operator:
            return from_matrix(torch.diag(torch.tensor([3.0, 1.0, 2.0])))

    np.testing.assert_allclose(top_eigenpairs(Thing(), 2).values.numpy(), [3, 2], rtol=1e-6)


SQUARE = torch.eye(5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: top_eigenpairs(SQUARE, 6), "6 eigenpairs"),
        (lambda: top_eigenpairs(SQUARE, 3, which="both"), "6 eigenpairs"),
        (lambda: top_eigenpairs(SQUARE, 0), "k=0"),
        (lambda: top_eigenpairs(SQUARE, which="middle"), "middle"),
        (lambda: top_eigenpairs(SQUARE, tol=0.0), "tol=0"),
        (lambda: top_eigenpairs(SQUARE, tol=float("nan")), "tol=nan"),
        (lambda: top_eigenpairs(SQUARE, block=0), "block"),
        (lambda: top_eigenpairs(SQUARE, 3, max_products=2), "max_products=2"),
        (lambda: top_eigenpairs(torch.eye(50), 3, basis=4), "basis of 4"),
        (lambda: top_eigenpairs(SQUARE, start=torch.ones(4)), r"\(4, 1\)"),
        (lambda: top_eigenpairs(SQUARE, start=torch.full((5,), torch.nan)), "NaN"),
        (lambda: top_eigenpairs(SQUARE, metric=DiagonalMetric(torch.ones(4))), "metric of size 4"),
        (lambda: top_eigenpairs(Operator(5, lambda block: block * torch.nan)), "not finite"),
        (lambda: top_eigenpairs(torch.ones(2, 3)), r"\(2, 3\)"),
        (lambda: top_eigenpairs("a string"), "str is not an operator"),
        (lambda: top_eigenpairs(torch.tensor([[0.0, 1.0], [0.0, 0.0]])), "not symmetric"),
        (lambda: DiagonalMetric(torch.tensor([1.0, -1.0])), "not positive"),
    ],
)
def test_bad_input_is_one_clear_line(call: object, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
