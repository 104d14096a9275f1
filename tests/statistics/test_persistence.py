"""Persistent homology of point clouds against minimum spanning trees, sets of known dimension, and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from edgescope.errors import EdgescopeError
from edgescope.statistics import lifetimes, persistence


@pytest.mark.parametrize("size", [2, 10, 60])
@pytest.mark.parametrize("seed", range(3))
def test_lifetimes_are_the_edges_of_a_minimum_spanning_tree(seed: int, size: int) -> None:
    points = np.random.default_rng(seed).normal(size=(size, 3))
    distances = cdist(points, points, "cityblock" if seed else "euclidean")
    edges = np.sort(minimum_spanning_tree(distances).data)
    assert lifetimes(distances) == pytest.approx(edges, rel=1e-12)


@given(arrays(np.float64, (12,), elements=st.integers(0, 6).map(float)))
@settings(max_examples=40)
def test_on_a_line_lifetimes_are_the_gaps_also_where_points_coincide(places: np.ndarray) -> None:
    found = lifetimes(np.abs(places[:, None] - places))
    assert found == pytest.approx(np.sort(np.diff(np.sort(places))))


def torus(seed: int, size: int, dimension: int) -> np.ndarray:
    """Distances between uniform points on a flat torus, which has no boundary to bias the slope."""
    points = np.random.default_rng(seed).random((size, dimension))
    apart = np.abs(points[:, None] - points)
    return np.sqrt((np.minimum(apart, 1 - apart) ** 2).sum(-1))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_dimension_of_uniform_points_without_a_boundary(dimension: int, alpha: float) -> None:
    # A spanning tree has n - 1 edges of length n^(-1/d), which biases the slope of log E_alpha a little; the rest is
    # chance, judged by the scatter over seeds (t-test with 7 degrees of freedom, level 0.001).
    found = [persistence(torus(seed, 300, dimension), alpha=alpha, seed=seed) for seed in range(8)]
    sizes = found[0].sizes
    slope = np.polyfit(np.log(sizes), np.log((sizes - 1) * sizes ** (-alpha / dimension)), 1)[0]
    values = [one.dimension for one in found]
    assert np.mean(values) == pytest.approx(alpha / (1 - slope), abs=5.4 * np.std(values, ddof=1) / 8**0.5)
    assert np.std(values) < 0.06 * dimension


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_dimension_of_uniform_points_in_a_cube(dimension: int) -> None:
    # The boundary makes E_alpha too small by a share of n^(-1/d) or so, which biases d; up to a tenth of d here.
    points = np.random.default_rng(0).random((400, dimension))
    found = persistence(cdist(points, points))
    assert found.dimension == pytest.approx(dimension, rel=0.1)
    assert 0 < found.dimension_error < 0.2 * dimension
    assert found.sizes[-1] == 400
    assert found.sums[-1] == found.lifetime_sum


def test_the_dimension_of_a_fractal() -> None:
    # The Sierpinski triangle by its chaos game: dimension ln 3 / ln 2.
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [1, 0], [0.5, 0.9]])
    point, points = corners[0], []
    for corner in rng.integers(3, size=600):
        point = (point + corners[corner]) / 2
        points.append(point)
    found = persistence(cdist(points, points))
    assert found.dimension == pytest.approx(math.log(3) / math.log(2), abs=0.1)


def test_lifetime_sums_of_points_at_known_gaps() -> None:
    places = np.cumsum(np.arange(30.0))
    distances = np.abs(places[:, None] - places)
    for alpha in (0.5, 1.0, 2.0):
        found = persistence(distances, alpha=alpha)
        assert found.lifetime_sum == pytest.approx((np.arange(1, 30.0) ** alpha).sum())
        assert found.alpha == alpha


def test_the_dimension_does_not_know_the_unit_of_distance() -> None:
    distances = torus(0, 100, 2)
    one, other = persistence(distances, seed=3), persistence(1e-6 * distances, seed=3)
    assert other.dimension == pytest.approx(one.dimension)
    assert other.lifetime_sum == pytest.approx(1e-6 * one.lifetime_sum)


def test_points_all_equally_far_from_each_other_have_no_finite_dimension() -> None:
    found = persistence(1 - np.eye(64))
    assert (found.dimension, found.dimension_error) == (math.inf, math.inf)
    assert found.lifetime_sum == pytest.approx(63)


def wrong(change: Any) -> np.ndarray:
    distances = torus(0, 30, 2)
    change(distances)
    return distances


def one_apart(size: int) -> np.ndarray:
    places = np.eye(1, size)[0]
    return np.abs(places[:, None] - places)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lifetimes(np.zeros((1, 1))), "distances of shape (1, 1)"),
        (lambda: lifetimes(np.zeros((4, 3))), "distances of shape (4, 3)"),
        (lambda: lifetimes(wrong(lambda d: np.copyto(d[3], np.nan))), "NaN or infinite"),
        (lambda: lifetimes(wrong(lambda d: np.copyto(d[3], -1.0))), "not a distance matrix"),
        (lambda: lifetimes(wrong(lambda d: np.copyto(d[3, 4:5], 9.0))), "not a distance matrix"),
        (lambda: persistence(torus(0, 19, 2)), "19 points"),
        (lambda: persistence(torus(0, 30, 2), alpha=0), "alpha=0"),
        (lambda: persistence(np.zeros((30, 30))), "all points coincide"),
        (lambda: persistence(one_apart(400)), "most points coincide"),
    ],
)
def test_bad_input_is_one_line_that_names_the_fault(call: Any, words: str) -> None:
    with pytest.raises(EdgescopeError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
