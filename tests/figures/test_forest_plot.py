"""A forest plot: every case in its row, over the region, whatever its numbers are."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import Figure
from edgescope.figures.forest import MOST_ROWS, drawn_rows, forest_plot

NAN, INF = math.nan, math.inf


def table(*rows: tuple[str, float, float, float, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, orient="row", schema=["case", "value", "low", "high", "verdict", "why"])


PLAIN = table(
    ("a", 1.02, 0.98, 1.06, "holds", ""),
    ("b", 1.7, 1.5, 1.9, "fails", "above the region"),
    ("c", 1.05, 0.95, 1.15, "open", "the interval crosses a border"),
)


def layers(chart: Any, kind: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Layers of one mark with their rows of data."""
    specification = chart.to_dict()  # checked against the schema of Vega-Lite
    found = []
    for layer in specification["layer"]:
        if layer["mark"]["type"] == kind:
            found.append((layer, json.loads(specification["datasets"][layer["data"]["name"]])))
    return found


def domain(chart: Any) -> tuple[float, float]:
    low, high = layers(chart, "rect")[0][0]["encoding"]["x"]["scale"]["domain"]
    return low, high


def scale(chart: Any) -> dict[str, Any]:
    return layers(chart, "rect")[0][0]["encoding"]["x"]["scale"]


def test_values_and_intervals_stand_in_the_rows_of_their_cases() -> None:
    chart = forest_plot(PLAIN, region=(0.9, 1.1), title="sharpness / threshold")
    ((line, rows),) = [found for found in layers(chart, "rule") if "y" in found[0]["encoding"]]
    assert {row["case"]: (row["from"], row["to"]) for row in rows} == {
        "a": (0.98, 1.06),
        "b": (1.5, 1.9),
        "c": (0.95, 1.15),
    }
    assert line["encoding"]["y"]["sort"] == ["a", "b", "c"]
    ((dots, rows),) = layers(chart, "point")
    assert {row["case"]: row["at"] for row in rows} == {"a": 1.02, "b": 1.7, "c": 1.05}
    assert dots["encoding"]["x"]["axis"]["title"] == "sharpness / threshold"
    low, high = domain(chart)
    assert low < 0.9
    assert high > 1.9


def test_verdicts_differ_in_shape_or_filling_and_not_in_colour_alone() -> None:
    ((dots, _),) = layers(forest_plot(PLAIN, region=(0.9, 1.1), title=""), "point")
    fill, shape = (dict(zip(s["domain"], s["range"], strict=True)) for s in (
        dots["encoding"][channel]["scale"] for channel in ("fill", "shape")
    ))  # fmt: skip
    assert shape["holds"] != shape["fails"]
    assert fill["open"] == "white" != fill["holds"]


@pytest.mark.parametrize(
    ("region", "shaded"), [((0.9, 1.1), (0.9, 1.1)), ((0.9, INF), (0.9, None)), ((-INF, 1.1), (None, 1.1))]
)
def test_the_region_is_shaded_up_to_the_border_where_it_has_no_end(
    region: tuple[float, float], shaded: tuple[float | None, float | None]
) -> None:
    chart = forest_plot(PLAIN, region=region, title="")
    (row,) = layers(chart, "rect")[0][1]
    low, high = domain(chart)
    assert (row["from"], row["to"]) == (shaded[0] or low, shaded[1] or high)
    borders = [r["border"] for layer, rows in layers(chart, "rule") if "y" not in layer["encoding"] for r in rows]
    assert borders == [border for border in region if math.isfinite(border)]


def test_what_lies_beyond_the_border_is_an_arrow_and_what_has_no_value_has_its_reason() -> None:
    wild = table(
        *PLAIN.rows(),
        ("up", INF, NAN, NAN, "fails", "diverged"),
        ("down", -INF, NAN, NAN, "fails", ""),
        ("far", 400.0, 300.0, 500.0, "fails", ""),
        ("wide", 1.0, -900.0, INF, "open", ""),
        ("none", NAN, NAN, NAN, "open", "never reached the edge"),
    )
    chart = forest_plot(wild, region=(0.9, 1.1), title="")
    low, high = domain(chart)
    assert -10 < low < 0.9
    assert 1.9 < high < 10
    (arrows, sides), (dots, points) = layers(chart, "point")
    values = {(row["case"], row["side"]) for row in sides if row["size"] > 100}
    assert values == {("up", "right"), ("down", "left"), ("far", "right")}
    assert {(row["case"], row["side"]) for row in sides if row["case"] == "wide"} == {
        ("wide", "left"),
        ("wide", "right"),
    }
    assert {row["at"] for row in sides} == {low, high}
    assert {row["case"] for row in points if row["at"] is not None} == {"a", "b", "c", "wide"}
    ((_, words),) = layers(chart, "text")
    assert words == [{"case": "none", "word": "never reached the edge"}]
    assert arrows["encoding"]["shape"]["scale"] == dots["encoding"]["shape"]["scale"]  # else dots take shapes of arrows


def test_a_case_without_an_interval_has_no_line() -> None:
    chart = forest_plot(table(("a", 1.0, NAN, NAN, "open", "")), region=(0.9, 1.1), title="")
    (rows,) = [rows for layer, rows in layers(chart, "rule") if "y" in layer["encoding"]]
    assert [(row["from"], row["to"]) for row in rows] == [(None, None)]


@pytest.mark.parametrize(
    ("values", "region", "log"),
    [
        ((1e-3, 1.0), (0.5, 2), True),
        ((0.5, 30.0), (0.5, 2), False),
        ((-1e-3, 1.0), (0.5, 2), False),
        ((1e-3, 1.0), (0, 2), False),
    ],
)
def test_positive_values_over_more_than_two_decades_have_a_logarithmic_axis(
    values: tuple[float, float], region: tuple[float, float], log: bool
) -> None:
    cases = [(f"{v}", v, v - abs(v) / 2, v + abs(v) / 2, "open", "") for v in values]
    chart = forest_plot(table(*cases), region=region, title="")
    assert (scale(chart).get("type") == "log") == log
    assert domain(chart)[0] < min(values)
    assert not log or domain(chart)[0] > 0


def test_the_pooled_mean_has_a_row_of_its_own_below_the_others() -> None:
    chart = forest_plot(PLAIN, region=(0.9, 1.1), title="", pooled=(1.2, 1.1, 1.3))
    diamond, rows = layers(chart, "point")[-1]
    assert [(row["at"], row["from"], row["to"]) for row in rows] == [(1.2, 1.1, 1.3)]
    assert diamond["encoding"]["y"]["sort"] == ["a", "b", "c", "pooled over cases"]


def test_every_row_tells_its_figures_to_those_who_point_at_it_and_to_those_who_do_not_see() -> None:
    svg = Figure("forest", "t", "c", forest_plot(PLAIN, region=(0.9, 1.1), title="")).svg()
    assert svg.count('aria-roledescription="row"') == 3
    told = "case: b; value: 1.7; 95% interval: 1.5 to 1.9; verdict: fails; reason: above the region"
    assert f'aria-label="{told}"' in svg


def test_of_many_cases_those_that_fail_and_are_open_are_drawn_in_the_order_of_the_table() -> None:
    verdicts = ["fails" if i % 10 == 9 else "open" if i % 10 == 8 else "holds" for i in range(100)]
    many = table(*[(f"{i}", 1.0, 0.9, 1.1, verdict, "") for i, verdict in enumerate(verdicts)])
    drawn = [int(case) for case in drawn_rows(many)["case"]]
    assert len(drawn) == MOST_ROWS
    assert drawn == sorted(drawn)
    assert {i for i, verdict in enumerate(verdicts) if verdict != "holds"} <= set(drawn)
    assert [i for i in drawn if verdicts[i] == "holds"] == [i for i in range(100) if verdicts[i] == "holds"][:20]


def test_cases_of_one_name_have_rows_of_their_own() -> None:
    twice = table(("a", 1.0, NAN, NAN, "open", ""), ("a", 2.0, NAN, NAN, "open", ""))
    _, points = layers(forest_plot(twice, region=(0, INF), title=""), "point")[-1]
    assert len({row["case"] for row in points}) == 2


@pytest.mark.parametrize(
    ("cases", "region", "message"),
    [
        (PLAIN.clear(), (0, 1), "is empty"),
        (PLAIN.drop("why"), (0, 1), "no column why"),
        (PLAIN, (1, 0), "region from 1 to 0"),
        (PLAIN, (NAN, 1), "region from nan to 1"),
        (table(("a", 1.0, NAN, NAN, "mixed", "")), (0, 1), "'mixed'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    cases: pl.DataFrame, region: tuple[float, float], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        forest_plot(cases, region=region, title="")
    assert "\n" not in str(caught.value)
