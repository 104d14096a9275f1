"""What every geometry must be: a norm, its dual and its steepest direction, on vectors and on blocks of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgescope.errors import InputError, UnknownNameError
from edgescope.geometry import (
    GEOMETRIES,
    Blocks,
    Diagonal,
    Euclidean,
    Geometry,
    Linf,
    Mixed,
    Part,
    Product,
    Scaled,
    Spectral,
    as_geometry,
)

SHAPES = [(3, 4), (3,), (), (2, 3, 2, 1), (4, 1)]
SIZE = 12 + 3 + 1 + 12 + 4

EXACT: dict[str, Geometry] = {
    "euclidean": Euclidean(),
    "linf": Linf(),
    "blocks": Blocks(),
    "spectral": Spectral(),
    "fan-in": Diagonal("fan-in"),
    "log-uniform": Diagonal("log-uniform", spread=5.0, seed=3),
    "tensor": Diagonal(torch.linspace(0.1, 4, SIZE, dtype=torch.float64)),
    "mixed": Mixed(),
    "product": Product((Part(Blocks(), (4, 0)), Part(Euclidean(), (1,)), Part(Linf(), (3, 2)))),
    "scaled": Scaled(Spectral(), (0.5, 2.0, 1.0, 3.0, 0.1)),
    "scaled blocks": Scaled(Blocks(), (0.5, 2.0, 1.0, 3.0, 0.1)),
    "nested": Product((Part(Scaled(Linf(), (2.0, 0.5)), (1, 2)), Part(Mixed("blocks", "euclidean"), (3, 4, 0)))),
}
BOUND = {name: geometry.bind(SHAPES) for name, geometry in EXACT.items()}
every = pytest.mark.parametrize("geometry", BOUND.values(), ids=BOUND.keys())

seeds = st.integers(0, 2**31)
kinds = st.sampled_from(["gaussian", "sparse", "integers", "low rank", "tiny", "huge"])


def draw(seed: int, kind: str = "gaussian", columns: int = 1) -> Tensor:
    """Vectors (SIZE, columns), with the zeros, ties and deficient ranks that gradients have."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SIZE, columns, generator=generator, dtype=torch.float64)
    if kind == "sparse":
        x = x * (torch.rand(SIZE, columns, generator=generator) < 0.2)
    if kind == "integers":
        x = x.round()
    if kind == "low rank":
        x[:12] = torch.einsum("ik,jk->ijk", x[:3], x[:4]).reshape(12, columns)
    return x * {"tiny": 1e-120, "huge": 1e120}.get(kind, 1.0)


@every
@given(seed=seeds, kind=kinds)
@settings(max_examples=20)
def test_the_steepest_direction_attains_the_dual_norm(geometry: Geometry, seed: int, kind: str) -> None:
    g = draw(seed, kind)[:, 0]
    s = geometry.steepest(g)
    dual = float(geometry.dual_norm(g))
    assert float(g @ s) == pytest.approx(dual, rel=1e-12, abs=0)
    assert float(geometry.norm(s)) == pytest.approx(1.0 if bool(g.any()) else 0.0, rel=1e-12)
    torch.testing.assert_close(geometry.descent(g), dual * s, rtol=1e-10, atol=1e-12 * dual)


@every
@given(seed=seeds, kind=kinds, other=kinds)
@settings(max_examples=20)
def test_duality(geometry: Geometry, seed: int, kind: str, other: str) -> None:
    g, d = draw(seed, kind)[:, 0], draw(seed + 1, other)[:, 0]
    assert float(g @ d) <= float(geometry.dual_norm(g) * geometry.norm(d)) * (1 + 1e-12)


@every
@given(seed=seeds, kind=kinds, factor=st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3))
@settings(max_examples=15)
def test_homogeneity(geometry: Geometry, seed: int, kind: str, factor: float) -> None:
    d = draw(seed, kind)[:, 0]
    if kind == "integers":  # several directions may be steepest, and rounding would choose among them
        factor = math.copysign(2.0 ** round(math.log2(abs(factor))), factor)
    for norm in (geometry.norm, geometry.dual_norm):
        assert float(norm(factor * d)) == pytest.approx(abs(factor) * float(norm(d)), rel=1e-12, abs=0)
    sign = math.copysign(1, factor)
    torch.testing.assert_close(geometry.steepest(factor * d), sign * geometry.steepest(d), rtol=0, atol=1e-7)


@every
@given(seed=seeds, kind=kinds)
@settings(max_examples=15)
def test_triangle_inequality(geometry: Geometry, seed: int, kind: str) -> None:
    a, b = draw(seed, kind, columns=2).T
    for norm in (geometry.norm, geometry.dual_norm):
        assert float(norm(a + b)) <= float(norm(a) + norm(b)) * (1 + 1e-12)


@every
def test_the_unit_ball_reaches_as_far_as_stated_and_no_further(geometry: Geometry) -> None:
    bound = geometry.squared_radius(SIZE)
    random = geometry.to_sphere(draw(0, columns=200))
    corners = geometry.steepest(torch.cat([random, torch.eye(SIZE, dtype=torch.float64)], dim=1))
    reached = [float(d.square().sum(0).max()) for d in (random, corners)]
    assert max(reached) <= bound * (1 + 1e-12)
    if "Scaled" not in repr(geometry):  # whose figure is an upper bound
        assert max(reached) == pytest.approx(bound, rel=1e-9)


@every
def test_a_block_is_its_columns(geometry: Geometry) -> None:
    block = draw(1, columns=4)
    block[:, 2] = 0
    for method in (geometry.norm, geometry.dual_norm, geometry.steepest, geometry.descent, geometry.to_sphere):
        whole = method(block)
        for k in range(4):
            torch.testing.assert_close(whole[..., k], method(block[:, k]), rtol=1e-12, atol=1e-14)


@every
def test_zero_gradients_and_what_is_not_finite(geometry: Geometry) -> None:
    zero = torch.zeros(SIZE, dtype=torch.float64)
    assert not geometry.steepest(zero).any()
    assert not geometry.descent(zero).any()
    assert not geometry.to_sphere(zero).any()
    assert float(geometry.dual_norm(zero)) == 0
    for bad in (math.nan, math.inf):
        broken = draw(2)[:, 0]
        broken[5] = bad
        assert not math.isfinite(float(geometry.norm(broken)))
        assert not math.isfinite(float(geometry.dual_norm(broken)))


@every
def test_single_precision_stays_single(geometry: Geometry) -> None:
    g = draw(3)[:, 0]
    s = geometry.steepest(g.float())
    assert s.dtype == geometry.dual_norm(g.float()).dtype == torch.float32
    torch.testing.assert_close(s.double(), geometry.steepest(g), rtol=0, atol=2e-5)


@every
def test_to_sphere_keeps_the_direction(geometry: Geometry) -> None:
    d = draw(4)[:, 0]
    on = geometry.to_sphere(d)
    assert float(geometry.norm(on)) == pytest.approx(1, rel=1e-12)
    assert float(on @ d) == pytest.approx(float(on.norm() * d.norm()), rel=1e-12)


@pytest.mark.parametrize("name", GEOMETRIES.names())
def test_any_order_means_what_it_says(name: str) -> None:
    """Tensors that change places together with their shapes leave norm and dual norm as they are."""
    geometry = as_geometry(name)
    if not geometry.any_order:
        return
    order = [3, 0, 4, 2, 1]
    pieces = draw(5)[:, 0].split([math.prod(shape) for shape in SHAPES])
    moved = torch.cat([pieces[i] for i in order])
    other = geometry.bind([SHAPES[i] for i in order])
    for mine, theirs in ((BOUND[name].norm, other.norm), (BOUND[name].dual_norm, other.dual_norm)):
        assert float(mine(torch.cat(pieces))) == pytest.approx(float(theirs(moved)), rel=1e-12)


def test_binding_leaves_the_geometry_as_it_was() -> None:
    spectral = Spectral()
    assert spectral.bind(SHAPES) != spectral
    assert spectral == Spectral()
    assert spectral.bind(SHAPES).bind([(2, 2)]).sizes() == [4]


def test_equal_geometries() -> None:
    p = torch.ones(3)
    assert Diagonal("fan-in") == Diagonal("fan-in")
    assert Diagonal("fan-in") != Diagonal("log-uniform")
    assert Diagonal("log-uniform", seed=1) != Diagonal("log-uniform", seed=2)
    assert Diagonal(p) == Diagonal(p)
    assert Diagonal(p) != Diagonal(p.clone())
    assert Linf() != Euclidean()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Spectral().norm(torch.ones(3)), "does not know the shapes"),
        (lambda: Blocks().steepest(torch.ones(3)), "does not know the shapes"),
        (lambda: Mixed().dual_norm(torch.ones(3)), "does not know the shapes"),
        (lambda: Diagonal("fan-in").norm(torch.ones(3)), "does not know the shapes"),
        (lambda: Spectral().bind(SHAPES).norm(torch.ones(5)), "shape (5,)"),
        (lambda: Blocks().bind(SHAPES).norm(torch.ones(5, 2)), "hold 32 numbers"),
        (lambda: BOUND["tensor"].norm(torch.ones(5)), "32 entries"),
        (lambda: Diagonal(torch.ones(3)).bind(SHAPES), "3 entries for tensors that hold 32"),
        (lambda: Spectral().bind([]), "no tensors"),
        (lambda: Spectral().bind([(2, 0)]), "shape (2, 0)"),
        (lambda: Diagonal(torch.tensor([1.0, -1.0])), "positive and finite"),
        (lambda: Diagonal("fan-out"), "fan-out"),
        (lambda: Diagonal("log-uniform", spread=0.0), "spread=0"),
        (lambda: Product((Part(Linf(), (0, 1)),)).bind(SHAPES), "each of 0 to 4 once"),
        (lambda: Product((Part(Linf(), (0, 1)), Part(Blocks(), (1, 2)))).bind([(2,)] * 3), "[0, 1, 1, 2]"),
        (lambda: Scaled(Linf(), (1.0,)).bind(SHAPES), "1 factors for 5 tensors"),
        (lambda: Scaled(Linf(), (1.0, 0.0)).bind([(2,), (3,)]), "factors (1.0, 0.0)"),
        (lambda: Spectral(polar="qr"), "qr"),
        (lambda: Spectral(polar="newton-schulz", steps=0), "steps=0"),
        (lambda: GEOMETRIES.build("spectral:polar=newton"), "newton-schulz"),
        (lambda: GEOMETRIES.build("mixed:vectors=linff"), "'linf'"),
        (lambda: as_geometry(3), "int"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_line(make: object, names: str) -> None:
    with pytest.raises(InputError) as caught:
        make()  # type: ignore[operator]
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'spectral'"):
        as_geometry("spectrl")
