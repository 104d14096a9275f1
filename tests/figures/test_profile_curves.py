"""Curves along a line, with the places of a run on them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from edgescope import figures

LINE = pl.DataFrame({"run": "valley", "x": [-1.0, 0.0, 1.0], "value": [3.0, 2.0, 4.0]})


def layers(chart: Any) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Encoding and rows of each layer by the type of its mark; of lines the first."""
    whole = chart.to_dict()  # checks it against the schema of Vega-Lite
    found: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for part in whole["layer"]:
        data = json.loads(whole["datasets"][part.get("data", whole.get("data"))["name"]])
        found.setdefault(part["mark"]["type"], (part["encoding"], data))
    return found


def test_curve_points_and_marks_stand_at_their_places() -> None:
    points = pl.DataFrame({"run": "valley", "x": [0.5, -0.5, 0.4], "value": [2.5, 2.4, 9.0]})
    edge = pl.DataFrame({"x": [0.25], "name": ["the step"]})
    found = layers(figures.profile_curves(LINE, points, marks=edge, x_title="multiple of the step", y_title="loss"))
    encoding, rows = found["line"]
    assert [(row["x"], row["value"]) for row in rows] == [(-1, 3), (0, 2), (1, 4)]
    assert (encoding["x"]["axis"]["title"], encoding["y"]["axis"]["title"]) == ("multiple of the step", "loss")
    low, high = encoding["y"]["scale"]["domain"]
    assert 0 < low < 2
    assert high > 9
    assert [(row["x"], row["place"]) for row in found["circle"][1]] == [(0.5, 0), (-0.5, 1), (0.4, 2)]
    assert found["rule"][1] == found["text"][1] == [{"x": 0.25, "name": "the step"}]


def test_a_curve_alone_is_a_line_without_a_legend() -> None:
    found = layers(figures.profile_curves(LINE))
    assert set(found) == {"line"}
    assert found["line"][0]["color"]["legend"] is None
    two = pl.concat([LINE, LINE.with_columns(run=pl.lit("other"))])
    assert layers(figures.profile_curves(two))["line"][0]["color"]["scale"]["domain"] == ["valley", "other"]
