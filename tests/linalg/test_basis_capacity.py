"""How many vectors a search holds: few by default, fewer where memory is short, always enough for the same pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from edge_network import Live, digits_network

from edgescope.errors import InputError, MemoryBudgetError
from edgescope.linalg import DiagonalMetric, EigenTracker, Operator, top_eigenpairs
from edgescope.linalg.capacity import best_capacity, fitting_capacity

CROWD = [1.037, 1.022, 1.014, 0.990, 0.97, 0.95, 0.93, 0.9]  # over the threshold, as measured at the edge of stability


@pytest.fixture(scope="module")
def edge() -> torch.Tensor:
    """The Hessian of a network at its edge of stability, where its largest eigenvalues crowd."""
    live = Live(*digits_network((20, 16), 200, seed=1))
    live.descend(0.35, 600)
    operator = live.operator()
    unit = torch.eye(operator.size, dtype=torch.float64)
    matrix = torch.cat([operator @ unit[:, start : start + 64] for start in range(0, operator.size, 64)], 1)
    return (matrix + matrix.T) / 2


def spectra(name: str, edge: torch.Tensor) -> np.ndarray:
    values = {
        "edge": lambda: torch.linalg.eigvalsh(edge).flip(0).numpy(),
        "crowd": lambda: np.r_[CROWD, 1 / np.arange(2, 1500), -np.linspace(0, 0.05, 100)],
        "within one percent": lambda: np.r_[10.0, 9.98, 9.95, 9.93, 9.91, 9.9, np.linspace(8, -2, 600)],
        "slow": lambda: 1 / np.arange(1, 2000) ** 0.7,
    }
    return values[name]()


@pytest.mark.parametrize("name", ["edge", "crowd", "within one percent", "slow"])
@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_small_basis_takes_as_many_products_as_one_that_keeps_everything(
    name: str, k: int, dtype: torch.dtype, edge: torch.Tensor
) -> None:
    values = torch.from_numpy(np.sort(spectra(name, edge))[::-1].copy())
    diagonal = values.to(dtype)[:, None]  # the iteration sees nothing of the frame
    spent = {None: 0, 300: 0}
    for basis in spent:
        for seed in range(4):
            operator = Operator(len(values), lambda block: diagonal * block, dtype=dtype)
            pairs = top_eigenpairs(operator, k, seed=seed, basis=basis)
            assert bool(pairs.converged.all())
            np.testing.assert_allclose(pairs.values.numpy(), values[:k].numpy(), rtol=2e-4)
            spent[basis] += pairs.products
    assert spent[None] <= 1.06 * spent[300]


def limited(matrix: torch.Tensor, vectors: float) -> Operator:
    bytes_free = int(vectors * matrix.shape[0] * matrix.dtype.itemsize)
    return Operator(matrix.shape[0], lambda block: matrix @ block, dtype=matrix.dtype, room=lambda least: bytes_free)


@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_where_memory_is_short_fewer_vectors_find_the_same_pairs_and_say_so(k: int, seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(400, seed), seed)
    exact = np.linalg.eigvalsh(matrix.numpy())[::-1][:k]
    plenty = top_eigenpairs(limited(matrix, 60), k, seed=seed)
    assert plenty.note is None
    short = top_eigenpairs(limited(matrix, 2 * k + 8), k, seed=seed)
    assert short.note is not None
    assert f"a basis of {k + 5} vectors" in short.note
    assert bool(short.converged.all())
    np.testing.assert_allclose(short.values.numpy(), exact, rtol=1e-5)
    np.testing.assert_allclose(plenty.values.numpy(), exact, rtol=1e-5)


def test_less_than_the_least_is_refused_with_both_figures() -> None:
    matrix = with_spectrum(like_a_hessian(400, 0), 0)
    with pytest.raises(MemoryBudgetError, match=r"a set of 17 vectors of length 400 needs .* and .* may be used"):
        top_eigenpairs(limited(matrix, 16), 6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2, 6])
def test_two_vectors_beyond_the_wanted_ones_are_enough(k: int, seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(400, seed), seed)
    exact = np.linalg.eigvalsh(matrix.numpy())[::-1][:k]
    least = top_eigenpairs(limited(matrix, 2 * k + 5), k, seed=seed)
    assert least.note is not None
    assert f"a basis of {k + 2} vectors" in least.note
    assert bool(least.converged.all())
    np.testing.assert_allclose(least.values.numpy(), exact, rtol=1e-5)


def test_a_place_for_the_basis_that_is_the_operators_own_changes_nothing() -> None:
    matrix = with_spectrum(like_a_hessian(400, 0), 0)
    operator = limited(matrix, 60)
    assert operator.held_on("cpu") is operator
    assert torch.equal(top_eigenpairs(matrix, 2, basis_device="cpu").values, top_eigenpairs(matrix, 2).values)
    with pytest.raises(InputError, match="basis_device= with a metric"):
        top_eigenpairs(matrix, basis_device="cpu", metric=DiagonalMetric(torch.ones(400, dtype=torch.float64)))


def test_a_tracker_in_little_memory_follows_and_says_so(edge: torch.Tensor) -> None:
    tracker = EigenTracker(limited(edge, 20), 2)
    exact = torch.linalg.eigvalsh(edge).flip(0)[:2]
    for step in range(4):
        pairs = tracker.update(limited((1 + 0.01 * step) * edge, 20))
        torch.testing.assert_close(pairs.values, (1 + 0.01 * step) * exact, rtol=1e-3, atol=0)
        assert bool(pairs.converged.all())
    assert pairs.note is not None
    assert "do not fit in memory" in pairs.note
    assert EigenTracker(edge, 2).update().note is None


def test_the_defaults() -> None:
    assert [best_capacity(k) for k in (1, 2, 6, 10)] == [12, 20, 20, 28]
    assert best_capacity(1, seeds=5) == 17
    assert best_capacity(6, block=4) == 32
    operator = limited(torch.eye(1000, dtype=torch.float32), 24)
    assert fitting_capacity(operator, 12, 1, 1, 2).rows == 12
    assert fitting_capacity(operator, 20, 6, 1, 2).rows == 15
