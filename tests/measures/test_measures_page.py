"""The table of measures in the documentation says what the measures say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgescope.measures import MEASURES

PAGE = Path(__file__).parents[2] / "docs" / "measures.md"
ROWS = {
    cells[0].strip("`"): cells[1:]
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `", line)
    )
}


@pytest.mark.parametrize("name", MEASURES.names())
def test_every_measure_has_its_row(name: str) -> None:
    measure = MEASURES[name]
    wanted = f"| `{name}` | {measure.title} | {measure.unit} | COST | {measure.source} |"
    assert name in ROWS, f"docs/measures.md lacks a row: {wanted}"
    what, unit, cost, source = ROWS[name]
    assert (what, unit, source) == (measure.title, measure.unit, measure.source), f"docs/measures.md needs: {wanted}"
    assert cost


def test_no_row_is_left_of_a_measure_that_is_gone() -> None:
    assert set(ROWS) <= set(MEASURES.names())
