"""Metrics with constants in them and metrics of several blocks, against dense matrices and in searches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg import BlockMetric, DiagonalMetric, EigenTracker, EigenvalueBound, from_matrix, top_eigenpairs


def symmetric(seed: int, size: int) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A + A.T + size * torch.eye(size, dtype=torch.float64)


def moving(size: int, seed: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_has_neither_root(dtype: torch.dtype) -> None:
    entries = torch.tensor([4.0, -1.0, 9.0, float("nan"), 0.0], dtype=torch.float64)
    metric = DiagonalMetric(entries, constant=torch.tensor([False, True, False, True, True]))
    block = torch.ones(5, 2, dtype=dtype)
    expected = torch.tensor([2.0, 0.0, 3.0, 0.0, 0.0], dtype=dtype)[:, None].expand(5, 2)
    torch.testing.assert_close(metric.root(block), expected)
    torch.testing.assert_close(metric.inverse_root(block), torch.where(expected == 0, 0.0, 1 / expected))
    assert metric.entries.tolist() == [4, float("inf"), 9, float("inf"), float("inf")]


def test_an_infinite_entry_is_refused_unless_it_is_named_a_constant() -> None:
    entries = torch.tensor([1.0, float("inf")])
    with pytest.raises(InputError, match="not positive and finite"):
        DiagonalMetric(entries)
    with pytest.raises(InputError, match="not positive and finite"):
        DiagonalMetric(entries, constant=torch.tensor([True, False]))
    assert DiagonalMetric(entries, constant=torch.tensor([False, True])).size == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_against_a_dense_matrix(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(n, generator=generator, dtype=torch.float64) + 0.1 for n in (5, 4))
    metric = BlockMetric(
        12, [(DiagonalMetric(first), [slice(7, 10), slice(0, 2)]), (DiagonalMetric(second), [slice(3, 7)])]
    )
    dense = torch.zeros(12, dtype=torch.float64)
    dense[7:10], dense[0:2], dense[3:7] = first[:3], first[3:], second
    vectors = torch.randn(12, 3, generator=generator, dtype=torch.float64).to(dtype)
    rows = dense.sqrt().to(dtype)[:, None]
    torch.testing.assert_close(metric.root(vectors), rows * vectors)
    torch.testing.assert_close(metric.inverse_root(vectors), torch.where(rows == 0, 0.0, vectors / rows))
    with pytest.raises(InputError, match="size 4 for 3 parameters"):
        BlockMetric(12, [(DiagonalMetric(second), [slice(0, 3)])])


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_eigenvalue_is_that_of_the_block_that_moves(seed: int) -> None:
    H, free = symmetric(seed, 40), moving(40, seed)
    entries = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    metric = DiagonalMetric(entries, constant=~free)
    block = H[free][:, free] / entries[free].sqrt()[:, None] / entries[free].sqrt()
    values = torch.linalg.eigvalsh(block).flip(0)
    pairs = top_eigenpairs(from_matrix(H), 3, metric=metric, tol=1e-9, start=torch.ones(40, 1, dtype=torch.float64))
    torch.testing.assert_close(pairs.values, values[:3], rtol=1e-9, atol=0)
    assert bool(pairs.vectors.isfinite().all())
    assert float(pairs.vectors[~free].abs().max()) == 0
    bound = EigenvalueBound(from_matrix(H), metric=metric).extend(30)
    assert bound.lower <= float(values[0]) * (1 + 1e-12)
    assert bound.upper >= float(values[0]) * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_tracker_where_the_constants_change(seed: int) -> None:
    """The history of one set of parameters is worth nothing for another set, and does no harm."""
    H, free = symmetric(seed, 40), moving(40, seed)
    tracker, entries = EigenTracker(from_matrix(H), tol=1e-6), torch.ones(40, dtype=torch.float64)
    for there in (free, free, ~free, torch.ones(40, dtype=torch.bool), free):
        metric = DiagonalMetric(entries, constant=~there)
        pairs = tracker.update(metric=metric)
        expected = float(torch.linalg.eigvalsh(H[there][:, there])[-1])
        assert bool(pairs.converged[0])
        assert float(pairs.values[0]) == pytest.approx(expected, rel=1e-5)
