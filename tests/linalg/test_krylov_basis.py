from __future__ import annotations

import pytest
import torch
from dense_cases import like_a_hessian, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import MemoryBudgetError
from edgescope.linalg import Operator, from_matrix
from edgescope.linalg.basis import Basis
from edgescope.linalg.capacity import check_memory
from edgescope.linalg.inner_products import reflection_to
from edgescope.memory import SHARE

DTYPES = [torch.float64, torch.float32]


def grown(matrix: torch.Tensor, blocks: int, width: int, seed: int = 0) -> Basis:
    basis = Basis(from_matrix(matrix), blocks * width, width)
    generator = torch.Generator().manual_seed(seed)
    basis.append(torch.randn(width, matrix.shape[0], generator=generator, dtype=matrix.dtype))
    for _ in range(blocks):
        basis.expand()
    return basis


def check(basis: Basis, matrix: torch.Tensor, slack: float) -> None:
    """Orthonormal rows, and the products of the matrix with them in coordinates, in units of eps and of its norm."""
    rows, exact = torch.cat([basis.rows, basis.outside]).double(), matrix.double()
    slack *= torch.finfo(matrix.dtype).eps
    norm = float(torch.linalg.matrix_norm(exact, 2))
    assert (rows @ rows.T - torch.eye(len(rows))).abs().max() < slack
    inside = rows[: basis.size]
    assert (basis.projection - inside @ exact @ inside.T).abs().max() < slack * norm
    products = basis.within @ inside + basis.coupling @ rows[basis.size :]
    assert torch.linalg.vector_norm(products - inside @ exact, dim=1).max() < slack * norm


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_stay_orthonormal_and_products_are_those_of_the_matrix(dtype: torch.dtype, width: int, seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(300, seed), seed, dtype)
    basis = grown(matrix, 10, width, seed)
    assert (basis.size, basis.outward) == (10 * width, width)
    check(basis, matrix, 40)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_products_stay_right_through_seeds_directions_random_rows_and_restarts(dtype: torch.dtype, seed: int) -> None:
    matrix = with_spectrum(like_a_hessian(300, seed), seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    basis = Basis(from_matrix(matrix), 16, 8)
    basis.append(torch.randn(5, 300, generator=generator, dtype=dtype))
    basis.expand()
    for step in range(60):
        if step % 7 == 3 and basis.free > 1:
            basis.append(torch.randn(1, 300, generator=generator, dtype=dtype))
        count = 1 + step % 2
        directions = torch.randn(basis.outward, count, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(directions).Q.T
        if basis.free < count:
            ritz = basis.ritz()
            directions = basis.compress(ritz.values[:4], ritz.coordinates[:, :4], directions)
            check(basis, matrix, 100)
        basis.expand(directions)
    assert basis.size > 4
    check(basis, matrix, 100)
    ritz = basis.ritz()
    inside, outside = basis.residuals(ritz.values, ritz.coordinates)
    found = inside @ basis.rows.double() + outside @ basis.outside.double()
    vectors = basis.combine(ritz.coordinates).double()
    slack = 200 * torch.finfo(dtype).eps * float(matrix.double().abs().max()) * 300**0.5
    torch.testing.assert_close(found, vectors @ matrix.double() - ritz.values[:, None] * vectors, atol=slack, rtol=0)


def test_ritz_values_are_those_of_the_rows_there_are_now() -> None:
    matrix, generator = with_spectrum(like_a_hessian(60, 0)), torch.Generator().manual_seed(0)
    basis = Basis(from_matrix(matrix), 8, 2)

    def exact() -> torch.Tensor:
        return torch.linalg.eigvalsh(basis.rows @ matrix @ basis.rows.T).flip(0)

    basis.append(torch.randn(2, 60, generator=generator, dtype=torch.float64))
    for _ in range(3):
        basis.expand()
        assert torch.allclose(basis.ritz().values, exact(), rtol=0, atol=1e-12)
    ritz = basis.ritz()
    basis.compress(ritz.values[:3], ritz.coordinates[:, :3])
    assert torch.allclose(basis.ritz().values, exact(), rtol=0, atol=1e-12)
    assert basis.clear(from_matrix(matrix), 8, 2)
    assert not basis.ritz().values.numel()


@settings(deadline=None)
@given(width=st.integers(1, 12), count=st.integers(1, 12), axes=st.booleans(), seed=st.integers(0, 1000))
def test_a_reflection_brings_the_span_of_directions_to_the_front(width: int, count: int, axes: bool, seed: int) -> None:
    count = min(count, width)
    generator = torch.Generator().manual_seed(seed)
    identity = torch.eye(width, dtype=torch.float64)
    directions = torch.linalg.qr(torch.randn(width, count, generator=generator, dtype=torch.float64)).Q.T
    if axes:  # also where they are there already, in another order and with other signs
        signs = torch.randint(2, (count, 1), generator=generator) * 2.0 - 1
        directions = signs * identity[torch.randperm(width, generator=generator)[:count]]
    across, along = reflection_to(directions)
    turn = identity - across @ along.T
    assert (turn @ turn.T - identity).abs().max() < 1e-14
    first = turn[:, :count]
    assert (first - directions.T @ (directions @ first)).abs().max() < 1e-14


def test_known_rows_are_not_written_to() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (1, 3):
        known = torch.linalg.qr(torch.randn(100, count, generator=generator, dtype=torch.float64)).Q.T
        known = (known + 1e-3 * torch.randn(known.shape, generator=generator, dtype=torch.float64)).contiguous()
        before = known.clone()
        basis = Basis(from_matrix(torch.eye(100, dtype=torch.float64)), 10, 4)
        coordinates = basis.append_known(known, torch.ones(count, dtype=torch.float64), 0.0, 0.0)
        assert torch.equal(known, before)
        lengths = torch.linalg.vector_norm(known, dim=1, keepdim=True)
        assert torch.allclose(coordinates @ basis.outside, known / lengths, rtol=0, atol=1e-14)


def test_dependent_short_and_zero_rows_are_left_out() -> None:
    basis = Basis(from_matrix(torch.eye(100, dtype=torch.float64)), 10, 4)
    first, second, third = torch.eye(100, dtype=torch.float64)[:3]
    assert basis.append(torch.stack([first, first + 1e-3 * second, 0 * first, third]), drop=0.01) == 2
    basis.expand()
    assert (basis.size, basis.outward) == (2, 0), "the products of the identity lead nowhere"
    assert basis.clear(basis.operator, 10, 4)
    basis.append(first[None])
    basis.expand()
    assert basis.append((first + 1e-5 * second)[None], drop=1e-3) == 1, "what is new of a row is normalised first"
    assert abs(float(basis.outside[0, 1])) == pytest.approx(1, abs=1e-9)
    assert basis.append(first[None] + 1e-5 * second) == 0


def test_a_restart_keeps_the_ritz_pairs_and_the_rows_outside() -> None:
    matrix = with_spectrum(like_a_hessian(300, 1), 1)
    basis = grown(matrix, 20, 1)
    outside, ritz = basis.outside.clone(), basis.ritz()
    wanted = basis.combine(ritz.coordinates[:, :7])
    basis.compress(ritz.values[:7], ritz.coordinates[:, :7])
    assert (basis.size, basis.free) == (7, 13)
    torch.testing.assert_close(basis.rows, wanted)
    torch.testing.assert_close(basis.ritz().values, ritz.values[:7])
    assert torch.equal(basis.outside, outside)
    check(basis, matrix, 40)


def test_a_restart_with_fewer_vectors_than_rows_outside_drops_what_none_needs() -> None:
    matrix = with_spectrum(like_a_hessian(300, 1), 1)
    basis = grown(matrix, 3, 6)
    ritz, asked = basis.ritz(), torch.eye(6, dtype=torch.float64)[2:3]
    direction = asked @ basis.outside
    kept = basis.compress(ritz.values[:2], ritz.coordinates[:, :2], asked)
    assert kept is not None
    assert (basis.size, basis.outward) == (2, 3)
    torch.testing.assert_close(kept @ basis.outside, direction)
    check(basis, matrix, 40)


def test_more_memory_is_made_without_changing_anything() -> None:
    matrix = with_spectrum(like_a_hessian(300, 1), 1)
    basis, other = grown(matrix, 8, 2), grown(matrix, 8, 2)
    basis.reserve(30)
    assert basis.total == 30
    other.reserve(4)
    assert other.total == 18
    assert not other.clear(other.operator, 40, 2)
    assert torch.equal(basis.rows, other.rows)
    basis.expand()
    check(basis, matrix, 40)


def test_float32_stays_orthonormal_over_very_long_vectors() -> None:
    diagonal = torch.linspace(0, 1, 600_001) ** 8
    basis = Basis(Operator(600_001, lambda block: diagonal[:, None] * block, dtype=torch.float32), 8)
    basis.append(torch.randn(1, 600_001, generator=torch.Generator().manual_seed(0)))
    for _ in range(8):
        basis.expand()
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
    basis.append(block)
    assert 1 <= basis.outward <= count
    torch.testing.assert_close(
        basis.outside @ basis.outside.T, torch.eye(basis.outward, dtype=torch.float64), atol=1e-12, rtol=0
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
