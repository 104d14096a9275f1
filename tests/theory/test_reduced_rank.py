"""Learning coefficients of linear networks: two formulas against each other, and against cases known without either."""

from __future__ import annotations

from itertools import product

import pytest

from edgescope.errors import InputError
from edgescope.theory.reduced_rank import deep_linear, deep_linear_with_decay, reduced_rank


def test_the_formula_for_many_layers_is_that_for_two() -> None:
    for inputs, hidden, outputs in product(range(1, 7), repeat=3):
        for rank in range(min(inputs, hidden, outputs) + 1):
            assert reduced_rank(inputs, hidden, outputs, rank) == deep_linear([inputs, hidden, outputs], rank)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2), (4, 6)])
def test_a_regular_model_has_half_its_parameters(inputs: int, outputs: int) -> None:
    """One layer is regular; wide hidden layers add no more than maps there are."""
    for rank in range(min(inputs, outputs) + 1):
        assert deep_linear([inputs, outputs], rank) == (inputs * outputs / 2, 1)
        assert deep_linear([inputs, 50, 60, outputs], rank) == (inputs * outputs / 2, 1)


@pytest.mark.parametrize("layers", range(1, 7))
def test_a_product_of_weights_is_a_normal_crossing(layers: int) -> None:
    """(w_1 ... w_L)² has the coefficient 1/2, with multiplicity L."""
    assert deep_linear([1] * (layers + 1), 0) == (0.5, layers)


@pytest.mark.parametrize(
    ("widths", "rank", "expected"),
    [
        ((3, 2, 3), 0, (2.5, 1)),
        ((3, 2, 3), 1, (3.5, 2)),
        ((3, 2, 3), 2, (4.0, 1)),  # the manifold of matrices of rank 2, which has 2 (3 + 3 - 2) dimensions
        ((4, 2, 4), 0, (3.5, 1)),
        ((3, 3, 3), 3, (4.5, 1)),
    ],
)
def test_known_values(widths: tuple[int, ...], rank: int, expected: tuple[float, int]) -> None:
    assert reduced_rank(*widths, rank) == expected


def test_full_rank_is_half_the_dimension_of_the_manifold() -> None:
    for M, H, N in product(range(2, 6), repeat=3):
        if min(M, N) >= H:
            assert reduced_rank(M, H, N, H) == (H * (M + N - H) / 2, 1)


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(InputError, match="rank is 3; expected at most 2"):
        reduced_rank(3, 2, 3, 3)
    with pytest.raises(InputError, match="hidden is 0"):
        reduced_rank(3, 0, 3, 0)
    with pytest.raises(InputError, match="1 widths"):
        deep_linear([3], 0)


def test_with_decay_the_coefficient_is_that_of_rotations_of_frames() -> None:
    """A mode of a chain of scalars has no rotation; two modes in layers of three units leave O(3)/O(1), twice."""
    assert deep_linear_with_decay([1, 1, 1, 1], 1) == (1.5, 1)
    assert deep_linear_with_decay([3, 2, 2, 3], 0) == (8.0, 1)
    assert deep_linear_with_decay([2, 3, 3, 2], 2) == ((21 - 2 * 3) / 2, 1)
    with pytest.raises(InputError, match="rank is 3; expected at most 2"):
        deep_linear_with_decay([3, 2, 2, 3], 3)
