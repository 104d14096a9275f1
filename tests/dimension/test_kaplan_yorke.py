from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope import kaplan_yorke
from edgescope.errors import InputError

NUMBERS = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=1, max_size=12)


def by_the_definition(exponents: list[float]) -> float:
    """The three cases of the paper, word for word, in exact fractions of a thousandth."""
    values = sorted((round(1000 * x) for x in exponents), reverse=True)
    if values[0] < 0:
        return 0.0
    order = max(i for i in range(1, len(values) + 1) if sum(values[:i]) >= 0)
    if order == len(values):
        return float(order)
    return order + sum(values[:order]) / abs(values[order])


def test_golden_values() -> None:
    assert kaplan_yorke([0.5, -0.2, -1.0]) == pytest.approx(2.3)
    assert kaplan_yorke([-0.1, -0.2]) == 0
    assert kaplan_yorke([0.5, 0.1, -0.6]) == pytest.approx(3)
    assert kaplan_yorke([0.5, 0.1, -0.5]) == 3
    assert kaplan_yorke([0.0]) == 1
    assert kaplan_yorke([0.0, -1.0]) == 1
    assert kaplan_yorke([0.906, 0.0, -14.572]) == pytest.approx(2.0622, abs=1e-4)  # the Lorenz attractor


@given(NUMBERS, st.randoms())
@settings(max_examples=200)
def test_agrees_with_the_definition_in_any_order(exponents: list[float], random: object) -> None:
    expected = by_the_definition(exponents)
    random.shuffle(exponents)  # type: ignore[attr-defined]
    for form in (exponents, tuple(exponents), np.array(exponents), torch.tensor(exponents, dtype=torch.float64)):
        assert kaplan_yorke(form) == pytest.approx(expected, abs=1e-9)


@given(NUMBERS, st.floats(0.01, 100))
@settings(max_examples=100)
def test_what_the_dimension_does_not_depend_on(exponents: list[float], scale: float) -> None:
    dimension = kaplan_yorke(exponents)
    assert 0 <= dimension <= len(exponents)
    assert kaplan_yorke([scale * x for x in exponents]) == pytest.approx(dimension, abs=1e-6)
    assert kaplan_yorke(exponents, [1.0] * len(exponents)) == dimension
    assert kaplan_yorke(exponents * 3) == pytest.approx(3 * dimension, abs=1e-6)  # three copies side by side
    assert kaplan_yorke(exponents, [3.0] * len(exponents)) == pytest.approx(3 * dimension, abs=1e-6)


@given(NUMBERS, st.integers(0, 11))
@settings(max_examples=100)
def test_a_larger_exponent_never_lowers_the_dimension(exponents: list[float], which: int) -> None:
    raised = list(exponents)
    raised[which % len(raised)] += 0.5
    assert kaplan_yorke(raised) >= kaplan_yorke(exponents) - 1e-9


def test_weights_count_directions() -> None:
    assert kaplan_yorke([1.0, -2.0], [2.0, 3.0]) == pytest.approx(3)  # 1, 2, then 2 - 2 t = 0 at t = 1
    assert kaplan_yorke([-2.0, 1.0, 7.0], [3.0, 2.5, 0.0]) == pytest.approx(2.5 + 1.25)
    assert kaplan_yorke([1.0, -2.0], [4.0, 0.5]) == 4.5
    assert kaplan_yorke([-1.0, 3.0], [5.0, 0.0]) == 0


def test_a_direction_that_collapses_adds_no_fraction() -> None:
    assert kaplan_yorke([0.5, -math.inf], allow_singular=True) == 1
    assert kaplan_yorke([-math.inf, 0.5, -0.2], allow_singular=True) == 2
    assert kaplan_yorke([-math.inf, -math.inf], allow_singular=True) == 0
    assert kaplan_yorke([0.5, -1e300]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kaplan_yorke([]), "no exponents"),
        (lambda: kaplan_yorke([1.0, math.nan]), "1 of 2 exponents are NaN"),
        (lambda: kaplan_yorke([1.0, math.nan, -math.inf], allow_singular=True), "1 of .* exponents are NaN"),
        (lambda: kaplan_yorke([1.0, -math.inf]), "1 of 2 exponents are -inf.*different learning rate"),
        (lambda: kaplan_yorke([math.inf, -1.0]), "an exponent is infinite"),
        (lambda: kaplan_yorke([math.inf, -1.0], allow_singular=True), "an exponent is infinite"),
        (lambda: kaplan_yorke([[1.0, 2.0]]), r"exponents of shape \(1, 2\)"),
        (lambda: kaplan_yorke("abc"), "exponents of type str"),
        (lambda: kaplan_yorke([1.0, 2.0], [1.0]), "1 weights for 2 exponents"),
        (lambda: kaplan_yorke([1.0, 2.0], [1.0, -1.0]), "weights that are negative"),
        (lambda: kaplan_yorke([1.0, 2.0], [0.0, 0.0]), "all zero"),
    ],
)
def test_bad_exponents_are_one_clear_line(call: Callable[[], float], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
