"""Live figures: the same picture as the still one, that can be zoomed, asked for values, and rid of a series.

The renderer of the still pictures runs Vega without a browser, so what the specification does is seen in what it draws.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
import vl_convert

from edgescope import figures
from edgescope.figures import Figure
from edgescope.figures.forest import forest_plot
from edgescope.figures.live import live_specification

STEPS = list(range(40))
RATIOS = pl.concat(
    pl.DataFrame({"run": run, "step": STEPS, "ratio": [(step + 1) / 37 + k for step in STEPS]})
    for k, run in enumerate(("first", "second"))
)
LOSSES = pl.concat(
    RATIOS.select("run", "step", loss=(-pl.col("ratio")).exp() + level, split=pl.lit(split))
    for split, level in (("train", 0.0), ("test", 0.3))
)
DOTS = pl.DataFrame({"run": ["a", "b"], "low": [0.9, 0.8], "middle": [1.0, 0.9], "high": [1.1, 1.0]})
CASES = pl.DataFrame(
    [("a", 1.0, 0.95, 1.05, "holds", ""), ("b", 0.7, 0.6, 0.8, "fails", "low")],
    orient="row",
    schema=["case", "value", "low", "high", "verdict", "why"],
)
PANELS = pl.concat(RATIOS.select("run", "step", panel=pl.lit(name), value="ratio") for name in ("one", "two"))
CHARTS = {
    "ratio": figures.ratio_curves(RATIOS),
    "loss": figures.loss_curves(LOSSES),
    "dots": figures.interval_dots(DOTS, expected=1.0, near=0.1),
    "panels": figures.stacked_panels(PANELS),
    "forest": forest_plot(CASES, region=(0.9, 1.1), title="ratio", pooled=(0.9, 0.8, 1.0)),
}


@pytest.fixture(scope="module")
def live() -> dict[str, dict[str, Any]]:
    return {name: live_specification(Figure(name, "t", "c", chart)) for name, chart in CHARTS.items()}


def texts(svg: str) -> list[str]:
    return sorted(re.findall(r"<text[^>]*>([^<]*)", svg))


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(part)
    if isinstance(node, dict):
        yield node


@pytest.mark.parametrize("name", CHARTS)
def test_the_live_picture_says_the_same_as_the_still_one(name: str, live: dict[str, dict[str, Any]]) -> None:
    still = Figure(name, "t", "c", CHARTS[name]).svg()
    assert texts(vl_convert.vega_to_svg(live[name])) == texts(still)


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_is_loaded(name: str, live: dict[str, dict[str, Any]]) -> None:
    assert not [node for node in nodes(live[name]) if {"url", "href"} & node.keys()]


@pytest.mark.parametrize(
    ("name", "zoomed"),
    [("ratio", ["x", "y"]), ("loss", ["x", "y"]), ("dots", ["x"]), ("forest", ["x"])],
)
def test_axes_of_numbers_can_be_zoomed_and_names_stay(
    name: str, zoomed: list[str], live: dict[str, dict[str, Any]]
) -> None:
    bound = {scale["name"]: scale["domainRaw"]["signal"] for scale in live[name]["scales"] if "domainRaw" in scale}
    assert sorted(bound) == zoomed
    # What the pointer leaves behind is an interval in a store: put there, it is what the axis spans.
    moved = json.loads(json.dumps(live[name]))
    (store,) = [data for data in moved["data"] if data["name"] == "zoom_0_store"]
    field = bound["x"].split('"')[1]
    store["values"] = [{"unit": "", "fields": [{"type": "R", "field": field, "channel": "x"}], "values": [[11, 12]]}]
    labels = {text for text in texts(vl_convert.vega_to_svg(moved)) if re.fullmatch(r"1[12](\.\d+)?", text)}
    assert labels >= {"11", "12"}


def test_every_panel_is_zoomed_by_itself(live: dict[str, dict[str, Any]]) -> None:
    signals = {signal["name"] for node in nodes(live["panels"]) for signal in node.get("signals", ())}
    assert {"zoom_0", "zoom_1"} <= signals


def test_the_wheel_scrolls_the_page_unless_a_key_is_held(live: dict[str, dict[str, Any]]) -> None:
    streams = [node for node in nodes(live["ratio"]) if node.get("type") == "wheel"]
    assert streams
    for stream in streams:
        assert "event.ctrlKey" in str(stream["filter"])


@pytest.mark.parametrize("name", ["ratio", "loss", "panels"])
def test_a_series_that_is_switched_off_is_not_seen_and_its_name_fades(
    name: str, live: dict[str, dict[str, Any]]
) -> None:
    off = json.loads(json.dumps(live[name]))
    (store,) = [data for data in off["data"] if data["name"] == "off_0_store"]
    store["values"] = [{"unit": "", "fields": [{"type": "E", "field": "run"}], "values": ["first"]}]

    def seen(svg: str) -> int:
        return sum('opacity="0"' not in path for path in re.findall(r"<path[^>]*line mark[^>]*>", svg))

    before, after = (vl_convert.vega_to_svg(specification) for specification in (live[name], off))
    assert seen(before) == 2 * seen(after) > 0
    for legend in [node for node in nodes(live[name]) if "symbols" in node.get("encode", {})]:
        (hidden, shown) = legend["encode"]["labels"]["update"]["opacity"]
        assert hidden["value"] < shown["value"] == 1


def test_points_of_lines_tell_their_values_and_show_themselves_under_the_pointer(
    live: dict[str, dict[str, Any]],
) -> None:
    (hit,) = [node for node in nodes(live["ratio"]) if str(node.get("name")).startswith("hit_") and "encode" in node]
    assert hit["encode"]["update"]["fillOpacity"] == {"value": 0}
    assert hit["encode"]["hover"] == {"fillOpacity": {"value": 1}}
    tooltip = hit["encode"]["update"]["tooltip"]["signal"]
    assert [word in tooltip for word in ('"run"', '"step"', '"sharpness / threshold"')] == [True] * 3


def test_data_keep_seven_digits(live: dict[str, dict[str, Any]]) -> None:
    stored = [json.loads(data["values"]) for data in live["ratio"]["data"] if isinstance(data.get("values"), str)]
    (rows,) = [rows for rows in stored if len(rows) == RATIOS.height]
    assert sorted(row["mean"] for row in rows) == pytest.approx(sorted(RATIOS["ratio"]), rel=1e-6)


def test_control_characters_in_names_are_written_out() -> None:
    table = RATIOS.with_columns(run=pl.lit("a\x1b[31m\u202eb"))
    both = pl.concat([table, RATIOS.filter(pl.col("run") == "first")])
    text = json.dumps(live_specification(Figure("x", "t", "c", figures.ratio_curves(both))), ensure_ascii=False)
    assert "\u202e" not in text
    assert "\x1b" not in text
