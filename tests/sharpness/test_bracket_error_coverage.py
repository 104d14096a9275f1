"""Brackets of generalized sharpness hold the truth, and errors of directional smoothness cover it."""

from __future__ import annotations

import pytest
from bracket_trials import BRACKETS
from error_trials import BOUNDED, coverage


@pytest.mark.parametrize(
    ("dense", "count"), [(128, 30), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((128, 200), (0, 100)))]
)
@pytest.mark.parametrize("name", BRACKETS)
def test_brackets_hold_the_truth(name: str, dense: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of networks with 6 to 10 parameters, as matrices and by products as large ones are."""
    monkeypatch.setattr("edgescope.sharpness.generalized._DENSE", dense)
    found = coverage(BRACKETS[name], count, tiny=True)
    assert found.inside[1] >= found.least(3)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_errors_of_directional_smoothness_cover_the_truth(count: int) -> None:
    assert not coverage(BOUNDED["directional smoothness"], count).short()
