"""The chart of what the learning rate trades: which regime is shaded where, and how each run is marked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import tradeoff_panels

EDGE, BELOW = "edge of stability", "below the edge"
RATES = [0.1, 0.2, 0.4, 0.8, 1.6]


def table(*regimes: str) -> pl.DataFrame:
    """A run at each of the rates, of which those that are called so diverged."""
    diverged = [regime == "diverged" for regime in regimes]
    values = [None if lost else 2.0 for lost in diverged]
    columns: dict[str, Any] = {"lr": RATES, "regime": list(regimes), "reached": [not lost for lost in diverged]}
    return pl.DataFrame(columns | {"diverged": diverged} | dict.fromkeys(("sharpness", "l1", "l2"), values))


def layers(table: pl.DataFrame, critical_lr: float | None, panel: int = 0) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every layer of a panel with its rows."""
    drawn = tradeoff_panels(table, critical_lr=critical_lr).to_dict()
    for layer in drawn["vconcat"][panel]["layer"]:
        found = drawn["datasets"][layer["data"]["name"]]
        yield layer, json.loads(found) if isinstance(found, str) else found


def bands(table: pl.DataFrame, critical_lr: float | None = 0.15) -> dict[str, tuple[float, float]]:
    """From and to by the name that stands over the band."""
    found = list(layers(table, critical_lr))
    spans = [(rows[0]["from"], rows[0]["to"]) for layer, rows in found if layer["mark"]["type"] == "rect"]
    names = [
        layer["mark"]["text"]
        for layer, rows in found
        if layer["mark"]["type"] == "text" and layer["mark"].get("baseline") == "bottom"
    ]
    return dict(zip(names, spans, strict=True))


def test_the_edge_is_shaded_as_far_as_runs_ended_there() -> None:
    shown = bands(table("flow-aligned", EDGE, "above the edge", BELOW, "diverged"))
    assert list(shown) == ["flow-aligned", "diverged", EDGE, BELOW]
    assert shown["flow-aligned"][1] == shown[EDGE][0] == 0.15
    assert shown[EDGE][1] == shown[BELOW][0] == pytest.approx((0.4 * 0.8) ** 0.5)
    assert shown[BELOW][1] == shown["diverged"][0] == pytest.approx((0.8 * 1.6) ** 0.5)


def test_what_is_below_the_edge_is_not_called_the_edge() -> None:
    shown = bands(table("flow-aligned", BELOW, BELOW, BELOW, BELOW))
    assert list(shown) == ["flow-aligned", BELOW]
    assert shown[BELOW][0] == 0.15


def test_where_no_rate_tells_of_the_edge_nothing_is_said_of_it() -> None:
    assert "above critical" in bands(table("flow-aligned", *["above critical"] * 4))
    assert "above critical" in bands(table("flow-aligned", EDGE, EDGE, EDGE, EDGE).drop("regime"))
    assert bands(table("not known", *["not known"] * 4), None) == {}


def test_each_run_is_marked_by_how_it_ended() -> None:
    rows = table("flow-aligned", EDGE, EDGE, EDGE, "diverged").with_columns(
        reached=pl.Series([True, True, False, True, False])
    )
    (points,) = [found for layer, found in layers(rows, 0.15) if layer["mark"]["type"] == "point"]
    assert {row["lr"]: row["state"] for row in points} == {
        0.1: "threshold reached",
        0.2: "threshold reached",
        0.4: "threshold not reached",
        0.8: "threshold reached",
        1.6: "diverged",
    }


def test_where_all_rates_diverge_they_are_crosses_beside_the_flow() -> None:
    found = list(layers(table(*["diverged"] * 5), 0.15))
    (points,) = [rows for layer, rows in found if layer["mark"]["type"] == "point"]
    assert [row["lr"] for row in points] == RATES
    assert {row["state"] for row in points} == {"diverged"}
    assert all(row["sharpness"] > 0 for row in points)


def test_one_rate_alone_has_axes_too() -> None:
    for sharpness in (0.0, 2.0):
        one = table("not known", *["diverged"] * 4).with_columns(sharpness=pl.lit(sharpness)).head(1)
        assert tradeoff_panels(one).to_dict()["vconcat"]


def test_tables_that_cannot_be_drawn_are_refused_in_one_line() -> None:
    good = table("flow-aligned", EDGE, EDGE, EDGE, EDGE)
    for bad, words in (
        (good.drop("lr"), "no column lr"),
        (good.with_columns(lr=-pl.col("lr")), "a rate that is not positive"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            tradeoff_panels(bad, critical_lr=0.15)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no finite value"):
        tradeoff_panels(table(*["diverged"] * 5))
    with pytest.raises(InputError, match="critical_lr = 0"):
        tradeoff_panels(good, critical_lr=0.0)


def test_the_threshold_of_another_optimizer_or_none() -> None:
    rows = table("flow-aligned", EDGE, EDGE, BELOW, "diverged")

    def words(factor: float | None, critical_lr: float | None) -> list[str]:
        drawn = tradeoff_panels(rows, critical_lr=critical_lr, factor=factor).to_dict()
        marks = [layer["mark"] for layer in drawn["vconcat"][0]["layer"]]
        return [mark["text"] for mark in marks if mark["type"] == "text" and mark.get("baseline") != "bottom"]

    assert words(2.0, 0.15) == ["2/η", "gradient flow 13.33"]
    assert words(3.8, 0.15) == ["3.8/η", "gradient flow 25.33"]
    assert words(None, None) == []
    with pytest.raises(InputError, match="critical_lr without a factor"):
        words(None, 0.15)


def test_norms_over_several_decades_are_on_a_logarithmic_axis() -> None:
    wide = table(*["flow-aligned"] * 5).with_columns(l2=pl.Series([5.0, 5.0, 50.0, 500.0, 5000.0]))
    drawn = tradeoff_panels(wide, critical_lr=0.15).to_dict()["vconcat"]
    points = [one["encoding"]["y"]["scale"] for panel in drawn for one in panel["layer"] if "shape" in one["encoding"]]
    assert [scale.get("type") for scale in points] == ["log", None, "log"]  # sharpness, l1, l2
    assert points[2]["domain"][0] < 5.0 / 1.2, "the marks at the ends are not cut off"
