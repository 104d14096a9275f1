"""Charts of curvatures over batch sizes, and of a spike with its warnings."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import batch_size_curves, spike_panels


def layers(chart: Any) -> list[dict[str, Any]]:
    """The layers of all panels with their rows."""
    specification = chart.to_dict(validate=False)
    panels = specification.get("concat") or specification.get("vconcat") or [specification]
    return [layer for panel in panels for layer in panel["layer"]]


def rows(chart: Any, mark: str) -> list[list[dict[str, Any]]]:
    sets = chart.to_dict(validate=False).get("datasets", {})
    found = [layer["data"] for layer in layers(chart) if layer["mark"]["type"] == mark]
    texts = [data.get("values") or sets[data["name"]] for data in found]
    return [json.loads(text) if isinstance(text, str) else text for text in texts]


def sizes(panel: str = "a") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "panel": [panel] * 4,
            "quantity": ["λ", "λ", "R", "R"],
            "batch": [4, 16, 4, 16],
            "low": [0.9, 1.4, math.nan, 1.9],
            "middle": [1.0, 1.6, 1.9, 2.0],
            "high": [1.1, 1.8, math.nan, 30.0],
        }
    )


def test_every_batch_size_has_a_tick_and_every_finite_interval_a_rule() -> None:
    chart = batch_size_curves(sizes(), expected=2.0, near=0.1, name="2/η")
    (points,) = rows(chart, "point")
    assert [(row["quantity"], row["batch"], row["middle"]) for row in points] == [
        ("λ", 4.0, 1.0),
        ("λ", 16.0, 1.6),
        ("R", 4.0, 1.9),
        ("R", 16.0, 2.0),
    ]
    axis = next(layer for layer in layers(chart) if layer["mark"]["type"] == "point")["encoding"]["x"]["axis"]
    assert axis["values"] == [4.0, 16.0]
    assert sorted(len(found) for found in rows(chart, "rule")) == [1, 3]  # the expected value, and three intervals
    assert rows(chart, "text")[0][0]["name"] == "2/η"


def test_an_interval_that_is_far_too_wide_does_not_squeeze_the_picture() -> None:
    line = next(each for each in layers(batch_size_curves(sizes())) if each["mark"]["type"] == "line")
    assert line["encoding"]["y"]["scale"]["domain"][1] < 4.0


def test_each_panel_has_its_rows() -> None:
    chart = batch_size_curves(pl.concat([sizes("a"), sizes("b")]))
    assert [panel["title"]["text"] for panel in chart.to_dict(validate=False)["concat"]] == ["a", "b"]


def test_without_a_finite_value_there_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="no value that can be shown"):
        batch_size_curves(sizes().with_columns(middle=pl.lit(math.nan)))


def series(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"step": range(len(values)), "value": values})


def test_events_inside_the_picture_are_marked_in_every_panel_and_named_once() -> None:
    chart = spike_panels(
        series([1.0, 0.9, 2.0, 0.8]), series([1.0, 1.0, 2.5, 1.0]), warnings=[1, 99], spikes=[2], cutoff=1.5
    )
    assert len(chart.to_dict(validate=False)["vconcat"]) == 2
    dotted = [found for found in rows(chart, "rule") if "step" in found[0]]
    assert sorted(found[0]["step"] for found in dotted) == [1.0, 1.0, 2.0, 2.0]
    assert all(len(found) == 1 for found in dotted)
    assert {found[0]["kind"] for found in rows(chart, "text")} == {"warning", "spike"}
    assert [found for found in rows(chart, "rule") if "cutoff" in found[0]] == [[{"cutoff": 1.5}]]


def test_without_norms_or_events_there_is_the_loss_alone() -> None:
    chart = spike_panels(series([1.0, 0.9, 2.0, 0.8]), None)
    assert "vconcat" not in chart.to_dict(validate=False)
    assert not rows(chart, "rule")
