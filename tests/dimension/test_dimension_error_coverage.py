"""Errors of the sharpness dimension cover the truth as often as they say, over 200 small random networks."""

from __future__ import annotations

import pytest
from error_trials import BOUNDED, DIMENSIONS, coverage


@pytest.mark.parametrize("name", DIMENSIONS)
def test_errors_of_sampled_dimensions_cover_the_truth_and_are_not_blown_up(name: str) -> None:
    found = coverage(DIMENSIONS[name])
    assert found.trials == 200
    assert not found.short()
    assert found.ratio < 3.5


def test_rounding_of_exact_dimensions_covers_the_truth() -> None:
    found = coverage(BOUNDED["dimension, exact, float32"])
    assert found.trials > 80
    assert not found.short()
