"""What error messages suggest in place of a name that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgescope
from edgescope.errors import UnknownNameError, one_of
from edgescope.near_names import nearest, suggestion

MEASURES = ["sharpness", "spectrum", "loss", "ratio"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sharpnes", "sharpness"),
        ("Ratio", "ratio"),
        ("los", "loss"),
        ("spektrum", "spectrum"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_most_similar_name_is_suggested(name: str, expected: str | None) -> None:
    assert nearest(name, MEASURES) == expected
    assert suggestion(name, MEASURES) == (None if expected is None else f"'{expected}'")


def test_names_that_are_not_text_can_be_compared() -> None:
    assert nearest(12, [120, 7]) == "120"
    assert nearest(None, ["none", "both"]) == "none"


def test_only_the_beginning_of_a_long_name_is_compared() -> None:
    assert nearest("a" * 60 + "b" * 10**6, ["a" * 60]) == "a" * 60


def test_an_error_of_a_name_has_the_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="try 'loss'"):
        one_of("lost", MEASURES, "measure")


def test_there_is_one_place_that_suggests_names() -> None:
    sources = Path(edgescope.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "difflib" in path.read_text(encoding="utf-8")] == ["near_names.py"]
