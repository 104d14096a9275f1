"""The complementarity solver against its optimality conditions, closed forms, and a general optimizer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import InputError
from edgescope.linalg.complementarity import complementarity, to_symmetric, to_vector

GOLDEN_A = np.array([[-1, 0.2], [0.2, -0.5]])
GOLDEN_G = np.array([[1, 0, 0.5], [0.2, 1, 0], [0, 0.3, 1]])


def problem(seed: int, k: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A random A, and B as the products of random vectors of very different lengths."""
    draw = np.random.default_rng(seed)
    m = k * (k + 1) // 2
    vectors = draw.standard_normal((3 * m, m)) * np.exp(spread * draw.standard_normal(m))
    a = draw.standard_normal((k, k))
    return (a + a.T) / 2 - draw.uniform(0, 2) * np.eye(k), vectors.T @ vectors / (3 * m)


def slack(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    return a + to_symmetric(b @ to_vector(x), len(a))


@given(seed=st.integers(0, 10**6), k=st.integers(1, 6), size=st.sampled_from([1e-12, 1.0, 1e9]))
@settings(max_examples=40)
def test_conditions_of_optimality(seed: int, k: int, size: float) -> None:
    a, b = problem(seed, k)
    x = complementarity(size * a, b / size).X.numpy() / size**2
    z = slack(a, b, x)
    scale = max(1.0, np.abs(x).max()), max(1.0, np.abs(z).max())
    assert np.linalg.eigvalsh(x)[0] > -1e-9 * scale[0]
    assert np.linalg.eigvalsh(z)[0] > -1e-6 * scale[1]
    assert np.abs(x @ z).max() < 1e-6 * scale[0] * scale[1]


def test_golden_values() -> None:
    found = complementarity(GOLDEN_A, GOLDEN_G @ GOLDEN_G.T + 0.1 * np.eye(3))
    wanted = torch.tensor([[0.721132, -0.307073], [-0.307073, 0.226650]], dtype=torch.float64)
    assert torch.allclose(found.X, wanted, atol=5e-7)
    assert np.abs(slack(GOLDEN_A, GOLDEN_G @ GOLDEN_G.T + 0.1 * np.eye(3), found.X.numpy())).max() < 1e-8


def test_identity_takes_the_positive_part() -> None:
    a, _ = problem(1, 5)
    values, vectors = np.linalg.eigh(-a)
    wanted = vectors @ np.diag(values.clip(0)) @ vectors.T
    assert np.allclose(complementarity(a, np.eye(15)).X.numpy(), wanted, atol=1e-9)


def test_one_direction_and_positive_a() -> None:
    assert complementarity(np.array([[-3.0]]), np.array([[4.0]])).X.item() == pytest.approx(0.75, rel=1e-14)
    assert complementarity(np.array([[3.0]]), np.array([[0.0]])).X.item() == 0
    assert not complementarity(np.eye(3), np.zeros((6, 6))).X.any()


@pytest.mark.parametrize("seed", range(3))
def test_against_a_general_optimizer(seed: int) -> None:
    """X = L L^T minimised by a quasi-Newton method that knows nothing of cones."""
    a, b = problem(seed, 3, spread=0.3)

    def value(entries: np.ndarray) -> float:
        root = entries.reshape(3, 3)
        x = to_vector(root @ root.T)
        return float(0.5 * x @ b @ x + to_vector(a) @ x)

    starts = np.random.default_rng(seed).standard_normal((4, 9))
    best = min((scipy.optimize.minimize(value, start, tol=1e-12) for start in starts), key=lambda found: found.fun)
    root = best.x.reshape(3, 3)
    found = complementarity(a, b).X.numpy()
    assert np.allclose(found, root @ root.T, atol=2e-4)
    x = to_vector(found)
    assert 0.5 * x @ b @ x + to_vector(a) @ x <= best.fun + 1e-9


def test_vectors_of_matrices_keep_inner_products() -> None:
    a, c = problem(0, 4)[0], problem(1, 4)[0]
    assert to_vector(a) @ to_vector(c) == pytest.approx(np.sum(a * c))
    assert np.array_equal(to_symmetric(to_vector(a), 4), a)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (-np.eye(2), np.zeros((3, 3)), "no self-stabilization"),
        (-np.eye(1), np.zeros((1, 1)), "no self-stabilization"),
        (-np.eye(2), np.eye(2), r"B of shape \(2, 2\)"),
        (-np.eye(2), -np.eye(3), "negative eigenvalue"),
        (-np.eye(2), np.diag([1.0, -1.0, 1.0]), "negative eigenvalue"),
        (np.array([[0.0, 1.0], [0.0, 0.0]]), np.eye(3), "not symmetric"),
        (np.full((2, 2), np.nan), np.eye(3), "NaN"),
        (np.zeros((2, 3)), np.eye(3), "symmetric matrix"),
    ],
)
def test_what_has_no_solution_is_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        complementarity(a, b)
