"""Figures with names of two parts become a table; others stay a list."""

from __future__ import annotations

import pytest

from edgescope.report.cross_table import CrossTable, cross_table


@pytest.mark.parametrize("separator", [": ", ", "])
def test_names_of_two_parts_cross(separator: str) -> None:
    measured = {
        f"{row}{separator}{column}": 10.0 * i + j for i, row in enumerate("abc") for j, column in enumerate("xy")
    }
    assert cross_table(measured) == CrossTable(
        ["x", "y"], [("a", [0.0, 1.0]), ("b", [10.0, 11.0]), ("c", [20.0, 21.0])]
    )


def test_the_first_separator_names_the_row() -> None:
    measured = {f"{run}: {what}": 1.0 for run in ("GD", "Linf") for what in ("S", "S, certified upper", "D")}
    table = cross_table(measured)
    assert table is not None
    assert table.columns == ["S", "S, certified upper", "D"]


def test_a_few_cells_may_be_missing() -> None:
    measured = {f"{row}: {column}": 1.0 for row in "abc" for column in "xyz"}
    del measured["b: y"]
    table = cross_table(measured)
    assert table is not None
    assert table.rows[1] == ("b", [1.0, None, 1.0])


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a: x", "a: y", "b: x", "b: y"],  # too few
        ["a: x", "a: y", "b: x", "b: y", "c: x", "plain"],
        [f"{row}: {row}" for row in "abcdef"],  # nothing in common
        [f"a: {column}" for column in "uvwxyz"],  # one row
    ],
    ids=["none", "few", "mixed", "apart", "one-row"],
)
def test_what_makes_no_table(names: list[str]) -> None:
    assert cross_table(dict.fromkeys(names, 1.0)) is None
