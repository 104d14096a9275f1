"""The norms of tensors against NumPy and SciPy; polar factors, exact and by iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from edgescope.geometry import Blocks, Diagonal, Linf, Mixed, Part, Product, Spectral
from edgescope.geometry.polar import SMALLEST, iterate, polar_factor, polar_share, quintics

SHAPES = [(5, 3), (7,), (), (4, 2, 3, 3)]
SIZES = [15, 7, 1, 72]


def pieces_of(vector: Tensor) -> list[np.ndarray]:
    """Each tensor as a matrix: first dimension x rest, vectors and scalars as a column."""
    pieces = [piece.numpy() for piece in vector.split(SIZES)]
    return [
        piece.reshape(shape[0], -1) if shape else piece.reshape(1, 1)
        for piece, shape in zip(pieces, SHAPES, strict=True)
    ]


def draw(seed: int) -> Tensor:
    return torch.randn(sum(SIZES), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_spectral_against_numpy_and_scipy(seed: int) -> None:
    g, geometry = draw(seed), Spectral().bind(SHAPES)
    pieces = pieces_of(g)
    assert float(geometry.norm(g)) == pytest.approx(max(np.linalg.norm(p, 2) for p in pieces), rel=1e-13)
    assert float(geometry.dual_norm(g)) == pytest.approx(sum(np.linalg.norm(p, "nuc") for p in pieces), rel=1e-13)
    for ours, piece in zip(pieces_of(geometry.steepest(g)), pieces, strict=True):
        np.testing.assert_allclose(ours, scipy.linalg.polar(piece)[0], atol=1e-12)
    assert geometry.squared_radius(g.numel()) == 3 + 1 + 1 + 4


@pytest.mark.parametrize("seed", range(3))
def test_blocks_against_numpy(seed: int) -> None:
    g, geometry = draw(seed), Blocks().bind(SHAPES)
    lengths = [np.linalg.norm(p) for p in pieces_of(g)]
    assert float(geometry.norm(g)) == pytest.approx(sum(lengths), rel=1e-13)
    assert float(geometry.dual_norm(g)) == pytest.approx(max(lengths), rel=1e-13)
    moved = [bool(p.any()) for p in pieces_of(geometry.steepest(g))]
    assert moved == [length == max(lengths) for length in lengths]


def test_of_equal_blocks_the_first_moves() -> None:
    g = torch.tensor([0.0, 0.0, 3.0, 4.0, 4.0, 3.0])
    direction = Blocks().bind([(2,), (2,), (2,)]).steepest(g)
    torch.testing.assert_close(direction, torch.tensor([0.0, 0.0, 0.6, 0.8, 0.0, 0.0]))


def test_linf_moves_nothing_where_the_gradient_is_zero() -> None:
    assert Linf().steepest(torch.tensor([2.0, 0.0, -1e-30])).tolist() == [1, 0, -1]


def test_diagonal_in_closed_form() -> None:
    geometry = Diagonal(torch.tensor([4.0, 0.25], dtype=torch.float64))
    g = torch.tensor([3.0, -1.0], dtype=torch.float64)
    assert float(geometry.norm(g)) == pytest.approx(math.sqrt(4 * 9 + 0.25))
    assert float(geometry.dual_norm(g)) == pytest.approx(math.sqrt(9 / 4 + 4))
    assert geometry.descent(g).tolist() == [0.75, -4]
    assert geometry.metric().entries.tolist() == [4, 0.25]


def test_named_preconditioners() -> None:
    assert Diagonal("fan-in").bind([(2, 3, 2), (2,), ()]).metric().entries.tolist() == [6] * 12 + [1] * 3
    entries = Diagonal("log-uniform", spread=7.0).bind([(10_000,)]).metric().entries
    assert 1 / 7 <= float(entries.min()) < 1 / 6.9 < 6.9 < float(entries.max()) <= 7
    assert float(entries.log().mean()) == pytest.approx(0, abs=0.05)
    assert not torch.equal(entries, Diagonal("log-uniform", spread=7.0, seed=1).bind([(10_000,)]).metric().entries)


def test_mixed_is_the_product_of_matrices_and_vectors() -> None:
    g = draw(0)
    weight, bias, scalar, kernel = pieces_of(g)
    mixed = Mixed("spectral", "linf").bind(SHAPES)
    nuclear = np.linalg.norm(weight, "nuc") + np.linalg.norm(kernel, "nuc")
    assert float(mixed.dual_norm(g)) == pytest.approx(nuclear + np.abs(bias).sum() + np.abs(scalar).sum())
    largest = max(np.linalg.norm(weight, 2), np.linalg.norm(kernel, 2), np.abs(bias).max(), np.abs(scalar).max())
    assert float(mixed.norm(g)) == pytest.approx(largest)
    by_hand = Product((Part(Spectral(), (0, 3)), Part(Linf(), (2, 1)))).bind(SHAPES)
    assert torch.equal(mixed.steepest(g), by_hand.steepest(g))
    assert Mixed().bind([(3,), (2,)]).squared_radius(5) == 5


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_a_deficient_rank_moves_along_its_range_only(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(shape[0], 2, generator=generator, dtype=torch.float64)
    g = low @ torch.randn(2, shape[1], generator=generator, dtype=torch.float64)
    factor = polar_factor(g)
    values = torch.linalg.svdvals(factor)
    torch.testing.assert_close(values[:2], torch.ones(2, dtype=torch.float64))
    assert float(values[2:].max()) < 1e-12
    assert not polar_factor(torch.zeros(shape)).any()


@pytest.mark.parametrize("method", ["newton-schulz", "polar-express"])
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_iteration_keeps_its_stated_share(method: str, steps: int, seed: int) -> None:
    """Singular values from 1e-3 of the Frobenius norm up come out between the share and 1, all others below 1."""
    generator = torch.Generator().manual_seed(seed)
    U, _ = torch.linalg.qr(torch.randn(60, 40, generator=generator, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))
    s = torch.logspace(0, -5, 40, dtype=torch.float64)
    g = 37.0 * (U * s) @ V.T
    found = U.T @ polar_factor(g, method, steps) @ V
    values = found.diagonal()
    torch.testing.assert_close(found, torch.diag(values), rtol=0, atol=1e-12)
    share = polar_share(method, steps)
    stated = s / s.norm() >= SMALLEST
    assert float(values[stated].min()) >= share
    assert 0 < float(values.min()) < float(values.max()) <= 1

    geometry = Spectral(method, steps).bind([(60, 40)])
    direction = geometry.steepest(g.flatten())
    assert geometry.share == share
    assert float(geometry.norm(direction)) <= 1
    assert float(g.flatten() @ direction) >= share * 37 * float(s[stated].sum())
    assert float(geometry.dual_norm(g.flatten())) == pytest.approx(37 * float(s.sum()))


def test_shares_are_attained() -> None:
    """What is stated is the range of the polynomial, not a safe bound far from it."""
    for method, steps in (("newton-schulz", 5), ("polar-express", 4), ("polar-express", 5), ("polar-express", 6)):
        s = torch.logspace(-3, 0, 20_000, dtype=torch.float64)
        values = s.clone()
        for a, b, c in quintics(method, steps):
            values = a * values + b * values**3 + c * values**5
        assert polar_share(method, steps) == pytest.approx(float(values.min() / values.max()), rel=1e-4)
    assert polar_share("polar-express", 5) > 0.79
    assert polar_share("polar-express", 8) > 1 - 1e-5
    assert polar_share("svd", 1) == 1


def test_each_step_of_polar_express_is_the_best_quintic() -> None:
    """Chebyshev: the error is best where it alternates in sign between four equal extrema."""
    low, high = SMALLEST, 1.0
    for a, b, c in quintics("polar-express", 6):
        x = np.linspace(low, high, 400_001)
        error = a * x + b * x**3 + c * x**5 - 1
        inner = np.sort(np.sqrt(np.roots([5 * c, 3 * b, a])))
        extrema = np.array([low, *inner, high])
        values = a * extrema + b * extrema**3 + c * extrema**5 - 1
        worst = np.abs(error).max()
        np.testing.assert_allclose(values, worst * np.array([-1, 1, -1, 1]), rtol=1e-6, atol=1e-12)
        low, high = 1 - worst, 1 + worst


def test_polar_express_in_its_limit() -> None:
    assert quintics("polar-express", 9)[-1] == (1.875, -1.25, 0.375)
    matrix = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(polar_factor(matrix, "polar-express", 10), scipy.linalg.polar(matrix)[0], atol=3e-6)


def test_an_iteration_works_on_singular_values() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    U, s, Vh = torch.linalg.svd(x, full_matrices=False)
    for matrices, left, right in ((x, U, Vh), (x.mT, Vh.mT, U.mT)):
        expected = (left * (0.5 * s + 0.25 * s**3 - 0.125 * s**5)[:, None, :]) @ right
        torch.testing.assert_close(iterate(matrices, ((0.5, 0.25, -0.125),)), expected, rtol=1e-10, atol=1e-10)


def test_what_is_not_finite_comes_out_so() -> None:
    g = torch.ones(SIZES[0] + SIZES[1], dtype=torch.float64)
    g[0] = math.nan
    for polar in ("svd", "newton-schulz"):
        geometry = Spectral(polar).bind(SHAPES[:2])
        direction = geometry.steepest(g)
        assert bool(direction[:15].isnan().all())
        assert bool(direction[15:].isfinite().all())
        assert math.isnan(float(geometry.dual_norm(g)))
