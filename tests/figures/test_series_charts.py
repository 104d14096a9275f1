"""Charts of any quantity over the steps of runs: gaps, axes, heat maps and marks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import Mark, heat_map, marked, series_panels
from edgescope.figures.heat_map import COLUMNS, MOST_ROWS
from edgescope.figures.marks import MOST_LETTERS
from edgescope.figures.series import log_helps
from edgescope.figures.thin import thin_with_gaps


def layers(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every innermost layer of every panel."""
    inner = [specification[key] for key in ("layer", "concat", "vconcat") if key in specification]
    for piece in inner[0] if inner else []:
        yield from layers(piece)
    if not inner:
        yield specification


def drawn(chart: Any, mark: str) -> list[list[dict[str, Any]]]:
    """The rows of each layer with this mark."""
    specification = chart.to_dict(validate=False)
    shared = specification.get("data")
    found = [layer.get("data", shared) for layer in layers(specification) if layer["mark"]["type"] == mark]
    texts = [data.get("values") or specification["datasets"][data["name"]] for data in found]
    return [json.loads(text) if isinstance(text, str) else text for text in texts]


def table(values: list[float | None], panel: str = "p", run: str = "a") -> pl.DataFrame:
    return pl.DataFrame(
        {"panel": panel, "run": run, "step": range(len(values)), "value": values},
        schema_overrides={"value": pl.Float64},
    )


def test_rows_on_two_sides_of_a_gap_are_in_two_segments() -> None:
    values = [1.0, 2.0, math.nan, None, 3.0, math.inf, 4.0, 5.0]
    points = thin_with_gaps(table(values), "step", "value", ["run"])
    kept = points.filter(pl.col("rows") > 0)
    assert kept["mean"].to_list() == [1.0, 2.0, 3.0, 4.0, 5.0]
    one, two, three, *rest = kept["segment"].to_list()
    assert one == two
    assert len({two, three, *rest}) == 3
    assert rest[0] == rest[1]
    assert points["lost"].sum() == 3


def test_a_long_series_with_single_losses_is_not_cut_to_pieces() -> None:
    values = [float("nan") if step % 1000 == 7 else float(step) for step in range(20_000)]
    points = thin_with_gaps(table(values), "step", "value", ["run"], bins=100)
    assert points.height == 100
    assert points["segment"].n_unique() == 1
    assert points["lost"].sum() == 20
    assert (points["low"].min(), points["high"].max()) == (0.0, 19_999.0)


def test_gaps_are_marked_on_the_axis_and_single_points_are_seen() -> None:
    chart = series_panels(table([1.0, 1.1, math.nan, 1.2, math.nan, 1.3, 1.4]))
    (gaps,) = drawn(chart, "point")
    assert [row["step"] for row in gaps] == [2.0, 4.0]
    (single,) = drawn(chart, "circle")
    assert [row["step"] for row in single] == [3.0]
    assert "no finite value" in json.dumps(chart.to_dict(validate=False))
    assert not drawn(series_panels(table([1.0, 1.1, 1.2])), "point")


def test_what_is_not_measured_at_the_end_is_no_divergence() -> None:
    def crosses(last: float | None) -> bool:
        return "diverged" in json.dumps(series_panels(table([1.0, 2.0, last])).to_dict(validate=False))

    assert not crosses(None)
    assert crosses(math.inf)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 10.0], False),
        ([1.0, 100.0], True),
        ([0.0, 100.0], False),
        ([1.0, math.nan, 100.0], True),
        ([math.nan], False),
    ],
)
def test_where_a_logarithmic_axis_helps(values: list[float], expected: bool) -> None:
    assert log_helps(pl.Series(values)) is expected


def test_a_panel_a_quantity_with_the_same_runs_in_all() -> None:
    rows = [table([1.0, 2.0], "x", "a"), table([3.0, 4.0], "x", "b"), table([5.0, 6.0], "y", "b")]
    chart = series_panels(pl.concat(rows)).to_dict(validate=False)
    assert [panel["title"]["text"] for panel in chart["concat"]] == ["x", "y"]
    domains = {
        tuple(layer["encoding"]["color"]["scale"]["domain"]) for layer in layers(chart) if "color" in layer["encoding"]
    }
    assert domains == {("a", "b")}


def test_marks_have_letters_until_they_would_run_into_each_other() -> None:
    chart = series_panels(table([1.0, 2.0, 3.0]))
    few = marked(chart, [Mark("a", 1), Mark("b", 1), Mark("c", 2, alarm=True)])
    words = [row for rows in drawn(few, "text") for row in rows]
    assert [(row["letter"], row["step"]) for row in words] == [("a b", 1.0), ("c", 2.0)]
    texts = [layer["mark"] for layer in few.to_dict()["layer"] if layer.get("mark", {}).get("type") == "text"]
    assert texts
    assert all(text["dy"] > 0 for text in texts), "below the upper edge, where a live chart clips its marks"
    many = marked(chart, [Mark("", step) for step in range(MOST_LETTERS + 1)])
    assert not drawn(many, "text")
    assert len(drawn(many, "rule")[0]) == MOST_LETTERS + 1
    assert marked(chart, []) is chart


def test_a_heat_map_has_the_means_of_its_rows_and_leaves_gaps_out() -> None:
    count = 10 * COLUMNS
    rows = [
        pl.DataFrame({"run": "a", "row": name, "step": range(count), "value": [float(height)] * count})
        for name, height in (("one", 1), ("two", 2))
    ]
    lost = rows[0].with_columns(value=pl.when(pl.col("step") < 10).then(math.nan).otherwise("value"))
    (cells,) = drawn(heat_map(pl.concat([lost, rows[1]]), title="x"), "rect")
    assert len(cells) == 2 * COLUMNS - 1
    assert {(cell["row"], cell["value"]) for cell in cells} == {("one", 1.0), ("two", 2.0)}
    first = min(cells, key=lambda cell: (cell["row"] != "two", cell["step"]))
    assert first["step"] == 0
    assert first["end"] >= 10


def test_heat_maps_that_cannot_be_drawn() -> None:
    row = pl.DataFrame({"run": ["a"], "row": ["r"], "step": [0], "value": [0.0]})
    with pytest.raises(InputError, match="no value that can be shown"):
        heat_map(row, title="x", logarithmic=True)
    many = pl.concat([row.with_columns(row=pl.lit(f"r{i}")) for i in range(MOST_ROWS + 1)])
    with pytest.raises(InputError, match="rows in a heat map"):
        heat_map(many, title="x")
