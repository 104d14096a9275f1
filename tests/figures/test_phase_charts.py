"""Charts of loops and escape times: what they show, and tables that they refuse."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import arrhenius_lines, hysteresis_loops, survival_curves

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


def test_a_loop_with_intervals_and_several_marks() -> None:
    table = LOOPS.with_columns(low=pl.col("order") - 1, high=pl.col("order") + 1)
    chart: dict[str, Any] = hysteresis_loops(table, marks={"b": [0.15, 0.18]}).to_dict()
    rules = [[layer for layer in panel["layer"] if layer["mark"]["type"] == "rule"] for panel in chart["concat"]]
    assert [len(layers) for layers in rules] == [1, 2]
    assert {"y", "y2"} <= set(rules[0][0]["encoding"])
    assert [row["decay"] for row in values_of(chart, rules[1][1])] == [0.15, 0.18]


def test_escape_times_have_intervals_and_expectation() -> None:
    chart = arrhenius_lines(TIMES, pl.DataFrame({"x": [1.0, 2.0], "y": [9.0, 90.0]})).to_dict()
    marks = [layer["mark"]["type"] for layer in chart["layer"]]
    assert marks == ["rule", "line", "point", "line"]
    assert chart["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


SHARES = pl.DataFrame({"run": ["a"] * 3, "time": [0.0, 1.0, 2.0], "share": [1.0, 0.5, 0.0]})


def test_what_is_left_is_drawn_against_escape_without_memory() -> None:
    chart: dict[str, Any] = survival_curves(SHARES).to_dict()
    steps, dashed = chart["layer"]
    assert steps["mark"]["interpolate"] == "step-after"
    assert [row["share"] for row in values_of(chart, steps)] == [1.0, 0.5]  # a share of zero has no place on this axis
    for row in values_of(chart, dashed):
        assert row["share"] == pytest.approx(math.exp(-row["time"]))


def values_of(chart: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of a layer; Altair keeps them as text, under a name where it gathers them."""
    return json.loads(layer["data"].get("values") or chart["datasets"][layer["data"]["name"]])


CASES = {"order": (hysteresis_loops, LOOPS), "middle": (arrhenius_lines, TIMES), "share": (survival_curves, SHARES)}


@pytest.mark.parametrize("column", CASES)
def test_tables_without_values_are_refused_in_one_line(column: str) -> None:
    draw, table = CASES[column]
    empty = table.with_columns(pl.lit(float("nan")).alias(column))
    for given, words in ((table.head(0), "empty"), (table.drop(table.columns[0]), "no column"), (empty, "value")):
        with pytest.raises(InputError, match=words) as caught:
            draw(given)
        assert "\n" not in str(caught.value)
