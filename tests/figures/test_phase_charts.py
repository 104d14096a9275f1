"""Charts of loops and escape times: what they show, and tables that they refuse."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import arrhenius_lines, hysteresis_loops

LOOPS = pl.DataFrame(
    {
        "panel": ["a"] * 4 + ["b"] * 4,
        "way": ["up", "up", "down", "down"] * 2,
        "decay": [0.1, 0.2] * 4,
        "order": [1.0] * 8,
    }
)
TIMES = pl.DataFrame(
    {"run": ["a", "a"], "x": [1.0, 2.0], "low": [8.0, 80.0], "middle": [10.0, 100.0], "high": [13.0, 130.0]}
)


def test_a_loop_has_a_panel_each_and_marks_where_they_belong() -> None:
    chart: dict[str, Any] = hysteresis_loops(LOOPS, marks={"b": 0.15}).to_dict()
    panels = chart["concat"]
    assert [panel["title"]["text"] for panel in panels] == ["a", "b"]
    assert ["rule" in json.dumps(panel["layer"]) for panel in panels] == [False, True]


def test_escape_times_have_intervals_and_expectation() -> None:
    chart = arrhenius_lines(TIMES, pl.DataFrame({"x": [1.0, 2.0], "y": [9.0, 90.0]})).to_dict()
    marks = [layer["mark"]["type"] for layer in chart["layer"]]
    assert marks == ["rule", "line", "point", "line"]
    assert chart["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


@pytest.mark.parametrize("draw", [hysteresis_loops, arrhenius_lines])
def test_tables_without_values_are_refused_in_one_line(draw: Any) -> None:
    table = LOOPS if draw is hysteresis_loops else TIMES
    empty = table.with_columns(pl.lit(float("nan")).alias("order" if draw is hysteresis_loops else "middle"))
    for given, words in ((table.head(0), "empty"), (table.drop(table.columns[0]), "no column"), (empty, "value")):
        with pytest.raises(InputError, match=words) as caught:
            draw(given)
        assert "\n" not in str(caught.value)
