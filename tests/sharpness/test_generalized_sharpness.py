"""Generalized sharpness of matrices against brute force, closed forms and interior-point bounds."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic_forms import (
    GEOMETRIES,
    KINDS,
    SHAPES,
    SIZE,
    form,
    over_faces,
    over_signs,
    products_only,
    with_nonnegative_diagonal,
)
from torch import Tensor

import edgescope as es
from edgescope.geometry import Diagonal, Euclidean, Geometry, Linf, Scaled
from edgescope.linalg import from_matrix
from edgescope.sharpness.ascent import climb

every = pytest.mark.parametrize("name", GEOMETRIES)
SLACK = 1e-9


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators of any size stay operators."""
    monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)


def check(found: es.sharpness.GeneralizedSharpness, matrix: Tensor, geometry: Geometry, slack: float = SLACK) -> None:
    """What every bracket promises."""
    d = found.direction.double()
    scale = float(matrix.abs().max()) * len(matrix)
    assert float(geometry.norm(d)) == pytest.approx(1, abs=max(slack, 1e-12))
    assert float(d @ matrix @ d) == pytest.approx(found.lower, abs=slack * scale)
    assert found.lower <= found.upper + slack * scale


# Linf


@pytest.mark.parametrize("kind", KINDS)
def test_linf_meets_brute_force_over_signs(kind: str) -> None:
    reached, ratios = [], []
    for seed in range(20):
        size = (3, 6, 9, 12, 14, 15)[seed % 6] if seed < 19 else 20
        matrix = with_nonnegative_diagonal(form(kind, size, seed))
        truth = over_signs(matrix)
        found = es.generalized_sharpness(matrix, "linf", seed=seed)
        check(found, matrix, Linf())
        assert found.lower <= truth * (1 + SLACK)
        assert found.upper >= truth * (1 - SLACK)
        reached.append(found.lower >= 0.999 * truth)
        if size >= 14:
            ratios.append(found.upper / truth)
    assert sum(reached) >= 20  # of the 5 x 20 of all kinds, 99 suffice
    assert np.median(ratios) <= 1.15
    assert max(ratios) <= 1.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_linf_meets_brute_force_over_faces(kind: str, size: int) -> None:
    for seed in range(3):
        matrix = form(kind, size, seed)  # with negative entries on the diagonal, so that a maximiser may leave vertices
        truth = over_faces(matrix)
        found = es.generalized_sharpness(matrix, "linf", seed=seed)
        check(found, matrix, Linf())
        slack = SLACK * float(matrix.abs().max())
        assert truth - 2e-3 * abs(truth) <= found.lower <= truth + slack
        assert found.upper >= max(truth, 0.0) - slack


def test_over_faces_agrees_with_signs_where_vertices_suffice() -> None:
    matrix = with_nonnegative_diagonal(form("gaussian", 7, 0))
    assert over_faces(matrix) == pytest.approx(over_signs(matrix), rel=1e-12)


def test_negative_sharpness_is_that_of_the_sphere() -> None:
    matrix = -torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    found = es.generalized_sharpness(matrix, "linf")
    assert found.lower == pytest.approx(-1)  # at a unit vector; over the ball it would be 0
    assert found.direction.abs().tolist() == pytest.approx([0, 1, 0])
    assert 0 <= found.upper < 1e-12  # rounding
    assert es.generalized_sharpness(matrix, "euclidean").upper == pytest.approx(-1)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_negative_definite_brackets(name: str, large: None) -> None:
    factor = form("gaussian", SIZE, 3)
    matrix = -(factor @ factor.T) - 0.1 * torch.eye(SIZE, dtype=torch.float64)
    geometry = GEOMETRIES[name].bind(SHAPES)
    found = es.generalized_sharpness(products_only(matrix, shapes=SHAPES), GEOMETRIES[name])
    check(found, matrix, geometry)
    assert found.lower < 0


def test_linf_bound_is_near_the_semidefinite_one() -> None:
    """The diagonal bound's optimum, by SciPy from the multipliers' even start: min sum(y) with diag(y) >= H."""
    from scipy.optimize import minimize

    for seed in range(2):
        matrix = form("gaussian", 10, seed)
        dense = matrix.numpy()

        def bound(y: np.ndarray, dense: np.ndarray = dense) -> tuple[float, np.ndarray]:
            values, vectors = np.linalg.eigh(dense - np.diag(y))
            return y.sum() + len(y) * values[-1], 1 - len(y) * vectors[:, -1] ** 2

        best = min(
            minimize(bound, start, jac=True, method="BFGS", options={"maxiter": 150}).fun
            for start in np.random.default_rng(0).normal(size=(2, 10))
        )
        found = es.generalized_sharpness(matrix, "linf", seed=seed)
        assert found.upper <= 1.03 * best


# all geometries


@every
@pytest.mark.parametrize(
    ("dtype", "by_products"), [(torch.float64, False), (torch.float32, True), (torch.float64, True)]
)
def test_bracket_holds_every_point_of_the_sphere(
    name: str, dtype: torch.dtype, by_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_products:
        monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)
    geometry = GEOMETRIES[name].bind(SHAPES)
    for seed, kind in enumerate(KINDS[1::3]):
        matrix = form(kind, SIZE, seed).to(dtype).double()
        thing = products_only(matrix, dtype, SHAPES) if by_products else from_matrix(matrix.to(dtype), SHAPES)
        found = es.generalized_sharpness(thing, GEOMETRIES[name], seed=seed)
        check(found, matrix, geometry, 1e-5 if dtype == torch.float32 else SLACK)
        starts = torch.randn(SIZE, 40, generator=torch.Generator().manual_seed(seed + 50), dtype=torch.float64)
        best = float(climb(from_matrix(matrix), geometry, starts, 40, 1e-6).values.max())
        assert best <= found.upper * (1 + 1e-5)
        assert found.lower >= 0.9 * best


@every
@pytest.mark.parametrize("by_products", [False, True])
def test_outer_product_has_the_dual_norm_squared(name: str, by_products: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_products:
        monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)
    geometry = GEOMETRIES[name].bind(SHAPES)
    for seed in range(3):
        g = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        matrix = torch.outer(g, g)
        thing = products_only(matrix, shapes=SHAPES) if by_products else from_matrix(matrix, SHAPES)
        found = es.generalized_sharpness(thing, GEOMETRIES[name], seed=seed)
        truth = float(geometry.dual_norm(g)) ** 2
        assert found.lower == pytest.approx(truth, rel=1e-6)
        assert truth * (1 - 1e-9) <= found.upper <= truth * (1.6 if name == "product" else 1.12)  # one holds Blocks


def test_diagonal_matrix_in_linf_has_its_trace() -> None:
    entries = torch.linspace(0, 3, 12, dtype=torch.float64)
    found = es.generalized_sharpness(torch.diag(entries), "linf")
    assert found.lower == pytest.approx(float(entries.sum()))
    assert found.upper == pytest.approx(float(entries.sum()), rel=1e-3)


@pytest.mark.parametrize("by_products", [False, True])
def test_positive_matrix_in_blocks_has_its_largest_block_eigenvalue(
    by_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_products:
        monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)
    ends = np.cumsum([0, 6, 3, 8, 1])
    for seed in range(4):
        factor = form("gaussian", SIZE, seed)
        matrix = factor @ factor.T
        truth = max(float(torch.linalg.eigvalsh(matrix[a:b, a:b])[-1]) for a, b in itertools.pairwise(ends))
        thing = products_only(matrix, shapes=SHAPES) if by_products else from_matrix(matrix, SHAPES)
        found = es.generalized_sharpness(thing, "blocks", seed=seed)
        assert found.lower == pytest.approx(truth, rel=2e-3)
        assert truth * (1 - 1e-12) <= found.upper <= truth * 1.002


def test_blocks_against_a_grid_over_two_indefinite_blocks() -> None:
    for seed in range(4):
        matrix = form("gaussian", 4, seed)
        angles = torch.linspace(0, 2 * torch.pi, 181, dtype=torch.float64)[:-1]
        circle = torch.stack([angles.cos(), angles.sin()])
        a = torch.einsum("ik,ij,jk->k", circle, matrix[:2, :2], circle)[:, None]
        b = torch.einsum("ik,ij,jk->k", circle, matrix[2:, 2:], circle)[None, :]
        c = circle.T @ matrix[:2, 2:] @ circle
        shares = torch.linspace(0, 1, 101, dtype=torch.float64)
        truth = max(float((t * t * a + 2 * t * (1 - t) * c + (1 - t) ** 2 * b).max()) for t in shares)
        found = es.generalized_sharpness(from_matrix(matrix, [(2,), (2,)]), "blocks", seed=seed)
        assert 0.999 * truth <= found.upper
        assert 0.95 * truth <= found.lower <= truth * (1 + 1e-3)  # the grid's own coarseness


@pytest.mark.parametrize("by_products", [False, True])
def test_euclidean_and_diagonal_are_eigenvalues(by_products: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_products:
        monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)
    p = torch.linspace(0.2, 4, 40, dtype=torch.float64)
    for seed, kind in enumerate(KINDS):
        matrix = form(kind, 40, seed)
        for geometry, scale in ((Euclidean(), torch.ones_like(p)), (Diagonal(p), p.rsqrt())):
            truth = float(torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1])
            thing = products_only(matrix, shapes=[(40,)]) if by_products else from_matrix(matrix, [(40,)])
            found = es.generalized_sharpness(thing, geometry, seed=seed)
            assert found.lower == pytest.approx(truth, rel=2e-3)
            assert found.upper == pytest.approx(truth, rel=2e-3)
            assert found.lower <= truth + SLACK
            assert truth <= found.upper + SLACK


def test_spectral_of_a_vector_is_euclidean_and_of_a_diagonal_map_on_rows_is_known() -> None:
    matrix = form("gaussian", 9, 0)
    truth = float(torch.linalg.eigvalsh(matrix)[-1])
    found = es.generalized_sharpness(from_matrix(matrix, [(9,)]), "spectral")
    assert found.lower == pytest.approx(truth, rel=1e-3)
    assert found.upper == pytest.approx(truth, rel=1e-3)
    # d'Hd = tr(D' A D) with A positive on the rows of a 3 x 5 matrix: every row may have norm 1, so S = tr A
    factor = form("gaussian", 3, 1)
    on_rows = factor @ factor.T
    found = es.generalized_sharpness(
        from_matrix(torch.kron(on_rows, torch.eye(5, dtype=torch.float64)), [(3, 5)]), "spectral"
    )
    assert found.lower == pytest.approx(float(on_rows.trace()), rel=1e-3)
    assert float(on_rows.trace()) * (1 - 1e-12) <= found.upper <= 1.1 * float(on_rows.trace())


def test_inequalities_between_geometries() -> None:
    """S_Linf and S_spectral are at least the largest eigenvalue, S_blocks at most (Islamov et al. 2026)."""
    for seed in range(3):
        operator = from_matrix(form("outliers", SIZE, seed), SHAPES)
        top = float(torch.linalg.eigvalsh(form("outliers", SIZE, seed))[-1])
        assert es.generalized_sharpness(operator, "linf").lower >= top
        assert es.generalized_sharpness(operator, "spectral").lower >= top * (1 - 1e-6)
        assert es.generalized_sharpness(operator, "blocks").lower <= top * (1 + 1e-9)


# invariances


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), scale=st.floats(1e-6, 1e6))
def test_linf_knows_scale_order_and_signs(seed: int, kind: str, scale: float) -> None:
    matrix = with_nonnegative_diagonal(form(kind, 6, seed))
    truth = over_signs(matrix)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    signs = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).sign()
    for other in (scale * matrix, matrix[order][:, order], signs[:, None] * matrix * signs):
        expected = truth * (scale if other is not matrix and torch.equal(other, scale * matrix) else 1)
        found = es.generalized_sharpness(other, "linf", restarts=4)
        assert found.lower == pytest.approx(expected, rel=1e-3)
        assert found.upper >= expected * (1 - SLACK)


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), name=st.sampled_from(sorted(GEOMETRIES)))
def test_sharpness_is_homogeneous(seed: int, kind: str, name: str) -> None:
    matrix = form(kind, SIZE, seed)
    one = es.generalized_sharpness(from_matrix(matrix, SHAPES), GEOMETRIES[name], restarts=3)
    ten = es.generalized_sharpness(from_matrix(10 * matrix, SHAPES), GEOMETRIES[name], restarts=3)
    assert ten.lower == pytest.approx(10 * one.lower, rel=1e-2, abs=1e-9)
    assert ten.lower <= 10 * one.upper * (1 + 1e-9)
    assert 10 * one.lower <= ten.upper * (1 + 1e-9)


def test_scaled_geometry_is_the_inner_one_of_the_scaled_matrix() -> None:
    matrix = with_nonnegative_diagonal(form("gaussian", SIZE, 0))
    factors = (0.5, 2.0, 1.0, 3.0)
    c = torch.cat([torch.full((n,), f, dtype=torch.float64) for f, n in zip(factors, (6, 3, 8, 1), strict=True)])
    truth = over_signs(c[:, None] * matrix * c)
    found = es.generalized_sharpness(from_matrix(matrix, SHAPES), Scaled(Linf(), factors))
    assert found.lower == pytest.approx(truth, rel=1e-3)
    assert found.upper >= truth


# any budget


@every
@pytest.mark.parametrize("budget", [1, 2, 4])
def test_valid_at_any_stage(name: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With next to no products the bracket is wide, and still one."""
    monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", 0)
    for part in ("_TOP", "_LANCZOS"):
        monkeypatch.setattr(f"edgescope.sharpness.by_ascent.{part}", budget)
    geometry = GEOMETRIES[name].bind(SHAPES)
    for seed, kind in enumerate(KINDS[1::3]):
        matrix = form(kind, SIZE, seed)
        starts = torch.randn(SIZE, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        best = float(climb(from_matrix(matrix), geometry, starts, 30, 1e-6).values.max())
        found = es.generalized_sharpness(
            products_only(matrix, shapes=SHAPES), GEOMETRIES[name], restarts=1, iterations=budget, seed=seed
        )
        check(found, matrix, geometry)
        assert found.upper >= best * (1 - SLACK)


def test_same_seed_same_bits_and_products_are_counted(large: None) -> None:
    matrix = form("outliers", 60, 0)
    runs = []
    for _ in range(2):
        operator = products_only(matrix)
        found = es.generalized_sharpness(operator, "linf", seed=5)
        assert found.products == operator.products == found.cost.products
        runs.append((found.lower, found.upper, found.direction.tolist()))
    assert runs[0] == runs[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.lower = 0.0  # type: ignore[misc]


def test_without_certificate_there_is_no_upper_end(large: None) -> None:
    found = es.generalized_sharpness(products_only(form("outliers", 60, 0)), "linf", certificate=False)
    assert found.upper == float("inf")
    assert found.upper_products == 0


# the published estimator


@functools.cache
def truth_of(seed: int) -> float:
    return over_signs(with_nonnegative_diagonal(form("gaussian", 14, seed)))


@pytest.mark.parametrize(("restarts", "mean"), [(1, 0.88), (5, 0.985), (20, 1.0)])
def test_frank_wolfe_reaches_its_golden_values(restarts: int, mean: float) -> None:
    """Estimate over brute force, 14-dimensional indefinite matrices, mean over 60 draws; within 0.03 (0.04 for 1)."""
    shares = []
    for seed in range(60):
        matrix = with_nonnegative_diagonal(form("gaussian", 14, seed))
        truth = truth_of(seed)
        found = es.generalized_sharpness(
            matrix, "linf", restarts=restarts, iterations=50, seed=seed, method="frank-wolfe", certificate=False
        )
        assert found.products == restarts * 51
        shares.append(found.lower / truth)
    assert max(shares) <= 1 + SLACK
    assert np.mean(shares) == pytest.approx(mean, abs=0.04 if restarts == 1 else 0.03)
