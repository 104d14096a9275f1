"""Errors of the sharpness dimension cover the truth as often as they say, over 200 small random networks.

The quick tests take 40, of which the median of error over deviation is not steady enough to be tested.
"""

from __future__ import annotations

import pytest
from error_trials import BOUNDED, DIMENSIONS, coverage


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", DIMENSIONS)
def test_errors_of_sampled_dimensions_cover_the_truth_and_are_not_blown_up(name: str, count: int) -> None:
    found = coverage(DIMENSIONS[name], count)
    assert found.trials == count
    assert not found.short()
    assert count < 200 or found.ratio < 3.5


@pytest.mark.slow
def test_rounding_of_exact_dimensions_covers_the_truth() -> None:
    found = coverage(BOUNDED["dimension, exact, float32"])
    assert found.trials > 80
    assert not found.short()
