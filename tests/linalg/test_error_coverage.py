"""Stated errors cover the truth as often as they say, over 200 small random networks.

The quick tests take 40, of which the median of error over deviation is not steady enough to be tested.
"""

from __future__ import annotations

import pytest
from error_trials import BOUNDED, SAMPLED, Coverage, Trial, coverage


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SAMPLED)
def test_standard_errors_cover_the_truth_and_are_not_blown_up(name: str, count: int) -> None:
    found = coverage(SAMPLED[name], count)
    assert found.trials == count
    assert not found.short()
    assert count < 200 or found.ratio < 3  # that of a normal deviation to its standard error is 1.48


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("eigenvalue, tol 1e-3", 40),
        pytest.param("eigenvalue, tol 1e-3", 200, marks=pytest.mark.slow),
        pytest.param("tracked eigenvalue", 40, marks=pytest.mark.slow),
    ],
)
def test_bounds_on_eigenvalues_cover_the_truth(name: str, count: int) -> None:
    assert not coverage(BOUNDED[name], count).short()


def test_the_test_of_coverage_can_fail() -> None:
    """Errors of which 0.60 cover, or which miss three errors in 3% of cases, are found out; true ones are not."""
    short = [Trial(0.0, 1.0, 0.5 if i < 120 else 1.5) for i in range(200)]
    assert Coverage.of(short).short() == ["120 of 200 inside 1 errors, at least 121 expected"]
    tails = [Trial(0.0, 1.0, 0.5 if i < 194 else 5.0) for i in range(200)]
    assert "inside 3 errors" in Coverage.of(tails).short()[-1]
    fair = [Trial(0.0, 1.0, 0.5 if i < 137 else 1.5 if i < 191 else 2.5) for i in range(200)]
    assert not Coverage.of(fair).short()
