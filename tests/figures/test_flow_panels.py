"""Panels of flows: what is drawn of a table, behind it, and where a panel ends."""

from __future__ import annotations

import json

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import block_means, flow_panels


def table(*panels: str, steps: int = 40) -> pl.DataFrame:
    rows = [
        (panel, run, step, level * 0.9**step)
        for panel in panels
        for run, level in (("a", 1.0), ("b", 2.0))
        for step in range(steps)
    ]
    return pl.DataFrame(rows, schema=["panel", "run", "step", "value"], orient="row")


def test_a_panel_a_run_with_one_legend_and_the_title_of_the_axis_at_the_left() -> None:
    drawn = flow_panels(table("one", "two"), title="loss").to_dict()
    assert [panel["title"]["text"] for panel in drawn["concat"]] == ["one", "two"]
    titles = [panel["layer"][0]["encoding"]["y"]["axis"]["title"] for panel in drawn["concat"]]
    assert titles == ["loss", ""]
    assert "concat" not in flow_panels(table("one"), title="loss").to_dict()


def test_band_and_iterates_are_behind_the_lines_of_their_panel() -> None:
    steps = pl.DataFrame({"panel": ["one"] * 3, "step": [0.0, 1.0, 2.0]})
    band = steps.with_columns(low=pl.lit(0.5), high=pl.lit(1e9))
    iterates = steps.with_columns(value=pl.lit(1.0))
    drawn = flow_panels(table("one", "two"), band=band, iterates=iterates, title="loss").to_dict()
    kinds = [[layer["mark"]["type"] for layer in panel["layer"]] for panel in drawn["concat"]]
    assert kinds[0][:2] == ["area", "line"]
    assert len(kinds[0]) == len(kinds[1]) + 2
    shown = json.loads(drawn["datasets"][drawn["concat"][0]["layer"][0]["data"]["name"]])
    domain = drawn["concat"][0]["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert max(row["high"] for row in shown) == pytest.approx(domain[1])  # cut off where the picture ends


def test_iterates_that_are_too_many_are_drawn_by_their_range() -> None:
    many = pl.DataFrame({"panel": "one", "step": [float(s) for s in range(2000)]}).with_columns(
        value=1 + 0.5 * (-1) ** (pl.col("step") % 2)
    )
    drawn = flow_panels(table("one"), iterates=many, title="loss").to_dict()
    assert drawn["layer"][0]["mark"]["type"] == "rule"


def test_a_linear_axis_from_zoom_with_an_expected_line() -> None:
    drawn = flow_panels(table("one"), title="S", logarithmic=False, expected=1.0, zoom=(0.5, 1.5)).to_dict()
    assert drawn["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0.5, 1.5]
    assert drawn["layer"][-1]["mark"]["type"] == "rule"


def test_block_means_are_those_of_each_series() -> None:
    means = block_means(table("one", steps=4), 2)
    a = means.filter(pl.col("run") == "a")
    assert a["step"].to_list() == [0.5, 2.5]
    assert a["value"].to_list() == pytest.approx([(1 + 0.9) / 2, (0.81 + 0.729) / 2])
    assert len(means) == 4


def test_a_table_without_values_is_refused() -> None:
    with pytest.raises(InputError, match="flows over steps"):
        flow_panels(table("one").with_columns(value=pl.lit(-1.0)), title="loss")
