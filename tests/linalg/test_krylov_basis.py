from __future__ import annotations

import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import MemoryBudgetError
from edgescope.linalg import Operator, from_matrix
from edgescope.linalg.basis import Basis, check_memory
from edgescope.memory import SHARE

DTYPES = [torch.float64, torch.float32]


def grown(matrix: torch.Tensor, blocks: int, width: int, seed: int = 0) -> Basis:
    basis = Basis(from_matrix(matrix), blocks * width, width)
    generator = torch.Generator().manual_seed(seed)
    basis.propose(torch.randn(width, matrix.shape[0], generator=generator, dtype=matrix.dtype))
    basis.commit()
    for _ in range(blocks - 1):
        basis.propose(basis.images[-width:], known=basis.projection[-width:])
        basis.commit()
    return basis


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_stay_orthonormal_and_the_projection_is_that_of_the_matrix(
    dtype: torch.dtype, width: int, seed: int
) -> None:
    matrix = with_spectrum(like_a_hessian(300, seed), seed, dtype)
    basis = grown(matrix, 10, width, seed)
    rows = basis.rows.double()
    slack = 50 * torch.finfo(dtype).eps
    assert (rows @ rows.T - torch.eye(basis.size)).abs().max() < slack
    assert (basis.projection - rows @ matrix.double() @ rows.T).abs().max() < 50 * slack
    assert (basis.images.double() - rows @ matrix.double()).abs().max() < 50 * slack


@pytest.mark.parametrize("dtype", DTYPES)
def test_coupling_rebuilds_what_was_proposed(dtype: torch.dtype) -> None:
    matrix = with_spectrum(like_a_hessian(200, 0), 0, dtype)
    basis = grown(matrix, 3, 4)
    block = basis.images[-4:].clone()
    coupling = basis.propose(block)
    rebuilt = (block.double() @ basis.rows.double().T) @ basis.rows.double() + coupling @ basis.pending.double()
    assert (rebuilt - block.double()).abs().max() < 1e3 * torch.finfo(dtype).eps


def test_dependent_short_and_zero_rows_are_left_out() -> None:
    basis = Basis(from_matrix(torch.eye(50, dtype=torch.float64)), 10)
    first, second, third = torch.eye(50, dtype=torch.float64)[:3]
    basis.propose(torch.stack([first, first + 1e-3 * second, 0 * first, third]), drop=0.01)
    assert basis.proposed == 2
    basis.clear(basis.operator)
    basis.propose(first[None])
    basis.commit()
    basis.propose((first + 1e-5 * torch.eye(50, dtype=torch.float64)[7])[None], floor=1e-4)
    assert basis.proposed == 0
    basis.propose((first + 1e-5 * torch.eye(50, dtype=torch.float64)[7])[None], floor=1e-6)
    assert abs(float(basis.pending[0, 7])) == pytest.approx(1, abs=1e-9)


def test_a_restart_keeps_the_ritz_pairs_and_the_proposed_row() -> None:
    matrix = with_spectrum(like_a_hessian(300, 1), 1)
    basis = grown(matrix, 20, 1)
    basis.propose(basis.images[-1:])  # needs the one spare row beyond the capacity
    pending, ritz = basis.pending.clone(), basis.ritz()
    wanted = basis.combine(ritz.coordinates[:, :7])
    basis.compress(ritz.values[:7], ritz.coordinates[:, :7])
    assert basis.size == 7
    torch.testing.assert_close(basis.rows, wanted)
    torch.testing.assert_close(basis.images, wanted @ matrix, atol=1e-10, rtol=0)
    torch.testing.assert_close(basis.ritz().values, ritz.values[:7])
    assert torch.equal(basis.pending, pending)


def test_float32_stays_orthonormal_over_very_long_vectors() -> None:
    diagonal = torch.linspace(0, 1, 600_001) ** 8
    basis = Basis(Operator(600_001, lambda block: diagonal[:, None] * block, dtype=torch.float32), 8)
    basis.propose(torch.randn(1, 600_001, generator=torch.Generator().manual_seed(0)))
    basis.commit()
    for _ in range(7):
        basis.propose(basis.images[-1:], known=basis.projection[-1:])
        basis.commit()
    rows = basis.rows.double()
    assert (rows @ rows.T - torch.eye(8)).abs().max() < 3e-6
    assert (basis.projection - (rows * diagonal) @ rows.T).abs().max() < 3e-6


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(-8, 0))
@settings(max_examples=40)
def test_nearly_parallel_blocks_come_out_orthonormal(seed: int, count: int, exponent: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, 40, generator=generator, dtype=torch.float64)
    block = common + 10**exponent * torch.randn(count, 40, generator=generator, dtype=torch.float64)
    basis = Basis(from_matrix(torch.eye(40, dtype=torch.float64)), 12, 12)
    basis.propose(block)
    assert 1 <= basis.proposed <= count
    torch.testing.assert_close(
        basis.pending @ basis.pending.T, torch.eye(basis.proposed, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_a_basis_that_cannot_fit_is_refused_with_both_figures() -> None:
    huge = Operator(10**13, lambda block: block)
    with pytest.raises(MemoryBudgetError, match=r"needs an estimated .* TiB, and .* may be used") as caught:
        Basis(huge, 60)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("free", "fits"), [(1020, True), (980, False)])
def test_a_basis_leaves_the_margin_of_all_memory_checks(monkeypatch: pytest.MonkeyPatch, free: int, fits: bool) -> None:
    monkeypatch.setattr("edgescope.memory.available", lambda device: free * 8 * 1000)
    operator = Operator(1000, lambda block: block)
    if fits:
        check_memory(int(SHARE * 1000), operator)
    else:
        with pytest.raises(MemoryBudgetError, match="800 vectors of length 1000"):
            check_memory(int(SHARE * 1000), operator)
