"""Long series become short without losing an extreme; tables are checked before they are drawn."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import InputError
from edgescope.figures.thin import check_table, not_finite_at_last, thin, thin_to_extremes

values = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=60)
@given(series=st.lists(values, min_size=1, max_size=400), bins=st.integers(1, 40))
def test_extremes_survive_and_the_number_of_points_is_bounded(series: list[float], bins: int) -> None:
    table = pl.DataFrame({"run": "a", "step": range(len(series)), "y": series}, schema_overrides={"y": pl.Float64})
    points = thin(table, "step", "y", ["run"], bins)
    finite = [v for v in series if math.isfinite(v)]
    assert points.height <= 2 * bins
    assert points["rows"].sum() == len(finite)
    if not finite:
        return
    assert points["low"].min() == min(finite)
    assert points["high"].max() == max(finite)
    assert (points["low"] <= points["mean"]).all()
    assert (points["mean"] <= points["high"]).all()
    assert points["step"].is_sorted()


@settings(max_examples=60)
@given(series=st.lists(values, min_size=1, max_size=400), bins=st.integers(1, 40))
def test_a_line_without_a_band_keeps_the_rows_of_its_extremes(series: list[float], bins: int) -> None:
    table = pl.DataFrame({"run": "a", "step": range(len(series)), "y": series}, schema_overrides={"y": pl.Float64})
    points = thin_to_extremes(table, "step", "y", ["run"], bins)
    finite = table.filter(pl.col("y").is_finite())
    assert points.height <= 2 * bins
    assert points.columns == table.columns
    assert points.join(finite, on=["run", "step", "y"], how="anti").is_empty()
    assert points["step"].is_sorted()
    assert points["y"].min() == finite["y"].min()
    assert points["y"].max() == finite["y"].max()
    if finite.height <= 2 * bins:
        assert points.equals(finite)


def test_every_point_stands_for_the_steps_around_it() -> None:
    table = pl.DataFrame({"run": "a", "step": range(1000), "y": [float(i) for i in range(1000)]})
    points = thin(table, "step", "y", ["run"], bins=10)
    assert points["rows"].to_list() == [100] * 10
    assert points["step"].to_list() == pytest.approx([49.5 + 100 * i for i in range(10)])
    assert points["mean"].to_list() == pytest.approx([49.5 + 100 * i for i in range(10)])
    assert points["low"].to_list() == [100.0 * i for i in range(10)]
    assert points["high"].to_list() == [99 + 100.0 * i for i in range(10)]


def test_series_are_thinned_each_on_its_own_and_sorted() -> None:
    short = pl.DataFrame({"run": "short", "step": [2, 0, 1], "y": [2.0, 0.0, 1.0]})
    long = pl.DataFrame({"run": "long", "step": range(100), "y": [1.0] * 99 + [7.0]})
    points = thin(pl.concat([short, long]), "step", "y", ["run"], bins=10)
    assert points.filter(pl.col("run") == "short")["mean"].to_list() == [0.0, 1.0, 2.0]
    assert points.filter(pl.col("run") == "long").height == 10
    assert points.filter(pl.col("run") == "long")["high"].max() == 7.0


def test_only_a_series_that_ends_without_a_finite_value_counts_as_lost() -> None:
    table = pl.DataFrame(
        {
            "run": ["gap"] * 3 + ["lost"] * 3 + ["empty"],
            "step": [0, 1, 2, 2, 1, 0, 0],
            "y": [1.0, math.nan, 2.0, math.inf, 2.0, 1.0, None],
        }
    )
    assert not_finite_at_last(table, "step", "y") == ["lost", "empty"]


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (pl.DataFrame(schema={"run": pl.String, "step": pl.Int64}), "empty"),
        (pl.DataFrame({"run": ["a"]}), "no column step"),
        (pl.DataFrame({"run": ["a"], "step": ["one"]}), "step"),
        ([{"run": "a", "step": 1}], "list"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_named_in_one_line(table: object, names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        check_table(table, {"run": "name", "step": "number"}, "a chart")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)
