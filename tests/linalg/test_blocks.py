"""Traces and largest eigenvalues of diagonal blocks, against the dense matrix."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from error_trials import Coverage, Trial
from random_networks import RandomNetwork, networks
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg import block_eigenvalues, block_masses, block_traces, from_matrix, to_matrix, top_eigenpairs

SIZE = 60
BLOCKS = {"a": [slice(0, 7), slice(30, 41)], "b": [slice(7, 30)], "rest": [slice(41, 60)]}
PLACES = {name: torch.cat([torch.arange(SIZE)[s] for s in slices]) for name, slices in BLOCKS.items()}


def hessian(seed: int = 0) -> Tensor:
    return with_spectrum(like_a_hessian(SIZE, seed), seed)


def variance(matrix: Tensor, name: str) -> float:
    """Of z_b·(Hz)_b: 2 ||off H_bb||^2 + the sum over other blocks of ||H_bc||^2."""
    own = PLACES[name]
    inside = matrix[own][:, own]
    off = inside - torch.diag(inside.diagonal())
    return float(2 * off.square().sum() + matrix[own].square().sum() - inside.square().sum())


@pytest.mark.parametrize("name", BLOCKS)
def test_the_variance_of_shared_probes_is_that_of_the_formula(name: str) -> None:
    """Every standard error is that of the formula, over 400 sets of 10 probes, and so is the scatter of the traces."""
    matrix = hessian()
    truth, wanted = float(matrix.diagonal()[PLACES[name]].sum()), variance(matrix, name) / 10
    found = [block_traces(matrix, BLOCKS, num_matvecs=10, seed=seed) for seed in range(400)]
    off = torch.tensor([each.values[name] - truth for each in found])
    stated = torch.tensor([each.error[name] for each in found]).square().mean()
    # the mean square of 400 deviations has a relative standard error of sqrt(2 / 400) = 7% for normal ones
    assert float(off.square().mean()) == pytest.approx(wanted, rel=0.25)
    assert abs(float(off.mean())) < 4 * math.sqrt(wanted / 400)
    assert float(stated) == pytest.approx(wanted * 9 / 7, rel=0.15)  # (n - 1) / (n - 3)


def test_all_blocks_come_from_the_same_products_and_add_up_to_the_trace_of_the_probes() -> None:
    operator = from_matrix(hessian())
    found = block_traces(operator, BLOCKS, num_matvecs=12, seed=3)
    assert (found.products, operator.products, found.method) == (12, 12, "probes")
    whole = block_traces(operator, {"all": [slice(0, SIZE)]}, num_matvecs=12, seed=3)
    assert sum(found.values.values()) == pytest.approx(whole.values["all"])


def test_a_block_without_others_has_no_error_where_it_is_diagonal() -> None:
    matrix = torch.diag(torch.arange(1.0, 41.0, dtype=torch.float64))
    found = block_traces(matrix, {"low": [slice(0, 20)], "high": [slice(20, 40)]}, num_matvecs=4)
    assert found.values == pytest.approx({"low": 210.0, "high": 610.0})
    assert max(found.error.values()) < 1e-9


def test_as_many_products_as_rows_give_the_traces_themselves() -> None:
    matrix = hessian(2)
    found = block_traces(matrix, BLOCKS, num_matvecs=SIZE)
    assert (found.method, found.products) == ("exact", SIZE)
    for name, own in PLACES.items():
        assert abs(found.values[name] - float(matrix.diagonal()[own].sum())) <= max(found.error[name], 1e-11)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_largest_eigenvalue_of_every_block_is_that_of_the_dense_block(dtype: torch.dtype) -> None:
    for seed in range(8):
        matrix = hessian(seed)
        operator = from_matrix(matrix.to(dtype))
        found = block_eigenvalues(operator, BLOCKS, tol=1e-3, seed=seed)
        assert found.products == operator.products
        assert all(found.converged.values())
        for name, own in PLACES.items():
            values, _ = torch.linalg.eigh(matrix[own][:, own])
            assert abs(found.values[name] - float(values[-1])) <= found.error[name] + 1e-12
            assert found.error[name] < 1e-3 * abs(found.values[name])
            v = found.vector[own].double()
            assert float(v.norm()) == pytest.approx(1, abs=1e-6)
            residual = float((matrix[own][:, own] @ v - found.values[name] * v).norm())
            assert residual == pytest.approx(found.residuals[name], abs=3e-5 * float(values.abs().max()))


def test_no_block_is_above_the_whole_and_their_sum_bounds_it_only_where_nothing_is_negative() -> None:
    for seed in range(10):
        matrix = hessian(seed)
        definite = matrix @ matrix
        for each, is_definite in ((matrix, False), (definite, True)):
            whole = float(torch.linalg.eigvalsh(each)[-1])
            tops = block_eigenvalues(each, BLOCKS, tol=1e-6).values
            assert max(tops.values()) <= whole * (1 + 1e-9)
            if is_definite:
                assert sum(tops.values()) >= whole * (1 - 1e-9)
    crossed = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # blocks of zero, and a largest value of 1
    tops = block_eigenvalues(crossed, {"first": [slice(0, 1)], "second": [slice(1, 2)]}).values
    assert tops == {"first": 0.0, "second": 0.0}


def test_a_large_block_is_restarted_and_a_short_one_is_done_in_as_many_products_as_rows() -> None:
    values = 1 + torch.linspace(0, 1, 300, dtype=torch.float64) ** 0.5  # crowded at the top
    matrix = with_spectrum(values.numpy(), 1)
    blocks = {"large": [slice(3, 300)], "short": [slice(0, 3)]}
    found = block_eigenvalues(matrix, blocks, tol=1e-3)
    dense = torch.linalg.eigvalsh(matrix[3:, 3:])[-1]
    assert found.converged["large"]
    assert found.products - 3 > 20  # more than one basis
    assert abs(found.values["large"] - float(dense)) <= found.error["large"]
    assert found.values["short"] == pytest.approx(float(torch.linalg.eigvalsh(matrix[:3, :3])[-1]))


def test_a_start_from_an_earlier_call_takes_fewer_products_and_finds_what_has_grown_beyond_it() -> None:
    matrix = hessian(4)
    cold = block_eigenvalues(matrix, BLOCKS)
    warm = block_eigenvalues(matrix, BLOCKS, start=cold.vector)
    assert warm.products < cold.products
    own = PLACES["b"]
    grown = matrix.clone()
    values, vectors = torch.linalg.eigh(matrix[own][:, own])
    other = torch.zeros(SIZE, dtype=torch.float64)
    other[own] = vectors[:, -4]
    grown += 3 * float(values[-1]) * torch.outer(other, other)
    found = block_eigenvalues(grown, BLOCKS, start=cold.vector)
    assert found.values["b"] == pytest.approx(float(values[-4] + 3 * values[-1]), rel=1e-3)


def test_what_is_not_converged_says_so() -> None:
    found = block_eigenvalues(hessian(), BLOCKS, tol=1e-8, max_products=3)
    assert not any(found.converged.values())
    assert found.products == 9


def test_products_are_shared_out_in_blocks_of_columns_with_the_same_result() -> None:
    narrow, wide = (block_eigenvalues(hessian(1), BLOCKS, block=width) for width in (1, 8))
    assert narrow.values == pytest.approx(wide.values, rel=1e-12)
    assert narrow.products == wide.products


def test_masses_are_shares_of_the_squared_norm() -> None:
    pairs = top_eigenpairs(hessian(), tol=1e-6)
    masses = block_masses(pairs.vectors[:, 0], BLOCKS)
    assert sum(masses.values()) == pytest.approx(1)
    vector = torch.linalg.eigh(hessian())[1][:, -1]
    assert masses["b"] == pytest.approx(float(vector[PLACES["b"]].square().sum()), abs=1e-5)
    assert math.isnan(block_masses(torch.zeros(SIZE), BLOCKS)["a"])


def halves(network: RandomNetwork) -> dict[str, list[slice]]:
    cut = network.size // 3
    return {"first": [slice(0, cut)], "rest": [slice(cut, network.size)]}


@pytest.mark.slow
def test_standard_errors_cover_the_traces_of_random_networks() -> None:
    def trial(network: RandomNetwork) -> Trial:
        found = block_traces(network.objective, halves(network), num_matvecs=20, seed=network.number)
        cut = network.size // 3
        return Trial(found.values["first"], found.error["first"], float(network.hessian[:cut, :cut].trace()))

    found = Coverage.of(map(trial, networks(100)))
    assert not found.short()
    assert found.ratio < 3


def test_bounds_cover_the_eigenvalues_of_random_networks() -> None:
    def trial(network: RandomNetwork) -> Trial:
        found = block_eigenvalues(network.objective, halves(network), seed=network.number)
        cut = network.size // 3
        truth = torch.linalg.eigvalsh(to_matrix(network.exact)[:cut, :cut])[-1]
        return Trial(found.values["first"], found.error["first"], float(truth))

    found = Coverage.of(map(trial, networks(60)))
    assert not found.short()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({}, "blocks given as"),
        ({"a": []}, "block 'a' without entries"),
        ({"a": [slice(60, 70)]}, "block 'a' without entries"),
        ({"a": [slice(50, 70)]}, "block 'a' beyond the end of vectors of length 60"),
        ({"a": [slice(0, 9)], "b": [slice(8, 20)]}, "block 'b' has entries of another block"),
        ({"a": [slice(0, 9), slice(3, 5)]}, "block 'a' has entries of another block, or some twice"),
    ],
)
def test_blocks_that_are_none_are_refused(blocks: Any, message: str) -> None:
    for function in (block_traces, block_eigenvalues):
        with pytest.raises(InputError, match=message):
            function(hessian(), blocks)
    with pytest.raises(InputError, match="a start vector of shape"):
        block_eigenvalues(hessian(), BLOCKS, start=torch.zeros(3))
