"""Every chart holds what its table said, with labelled axes, and is a specification that Vega-Lite accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope import figures
from edgescope.errors import InputError
from edgescope.figures.axes import log_ticks

STEPS = 60


def table(y: str, runs: tuple[str, ...] = ("a", "b"), steps: int = STEPS, **more: object) -> pl.DataFrame:
    """Two runs: ``y`` rises from 0.5 towards 1 and 2."""
    rise = 1 - 0.5 * np.exp(-np.arange(steps) / 20)
    return pl.concat(
        pl.DataFrame({"run": run, "step": range(steps), y: (i + 1) * rise, **more}) for i, run in enumerate(runs)
    )


def parts(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every layer of every panel."""
    inner = [specification[k] for k in ("layer", "concat") if k in specification]
    for piece in inner[0] if inner else []:
        yield from parts(piece)
    if not inner:
        yield specification


def spec_of(chart: Any) -> dict[str, Any]:
    return chart.to_dict()  # checks the whole against the Vega-Lite schema


def marks(chart: Any, kind: str) -> list[dict[str, Any]]:
    return [p for p in parts(spec_of(chart)) if p["mark"]["type"] == kind]


def rows(chart: Any, part: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads(spec_of(chart)["datasets"][part["data"]["name"]])


def titles(chart: Any) -> set[str]:
    found = set()
    for part in parts(spec_of(chart)):
        for channel in ("x", "y"):
            axis = part["encoding"].get(channel, {}).get("axis") or {}
            title = axis.get("title")
            found |= set(title) if isinstance(title, list) else {title}
    return found - {None}


def test_loss_curves() -> None:
    losses = pl.concat([table("loss").with_columns(split=pl.lit(s)) for s in ("train", "test")])
    chart = figures.loss_curves(losses, title="loss ½|f − y|²")
    (line,) = marks(chart, "line")
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    assert line["encoding"]["color"]["scale"]["domain"] == ["a", "b"]
    assert line["encoding"]["strokeDash"]["scale"]["domain"] == ["train", "test"]
    solid, dashed = line["encoding"]["strokeDash"]["scale"]["range"]
    assert solid == [1, 0]
    assert dashed != solid
    assert {"step", "loss ½|f − y|²"} <= titles(chart)
    drawn = pl.DataFrame(rows(chart, line)).sort("run", "split", "step")
    assert drawn["mean"].to_list() == pytest.approx(losses.sort("run", "split", "step")["loss"].to_list())
    (shapes,) = marks(chart, "point")
    assert {row["run"] for row in rows(chart, shapes)} == {"a", "b"}


def test_losses_of_zero_are_left_out_of_a_logarithmic_axis_without_being_called_diverged() -> None:
    losses = table("loss").with_columns(loss=pl.when(pl.col("step") > 50).then(0.0).otherwise("loss"))
    chart = figures.loss_curves(losses)
    assert min(row["low"] for row in rows(chart, marks(chart, "line")[0])) > 0
    assert "diverged" not in json.dumps([p["mark"] for p in parts(spec_of(chart))])
    assert len(marks(chart, "point")) == 1


def test_time_replaces_the_step_on_the_axis() -> None:
    chart = figures.ratio_curves(table("ratio").with_columns(time=0.1 * pl.col("step")), x="time")
    assert "time η · step" in titles(chart)
    assert max(row["time"] for row in rows(chart, marks(chart, "line")[0])) == pytest.approx(5.9)


@pytest.mark.parametrize("named", [False, True])
def test_a_diverged_run_is_crossed_where_it_leaves_the_picture_and_does_not_squeeze_the_others(named: bool) -> None:
    good = table("ratio", ("good",))
    steps = np.arange(STEPS)
    bad = np.where(steps < 40, 0.5, 0.5 * np.exp(np.minimum(steps - 39.0, 15) * 2))
    if not named:
        bad[55:] = [math.inf, math.inf, math.nan, math.nan, math.nan]
    both = pl.concat([good, pl.DataFrame({"run": "bad", "step": steps, "ratio": bad})])
    chart = figures.ratio_curves(both, diverged=["bad"] if named else [])
    (line,) = marks(chart, "line")
    low, high = line["encoding"]["y"]["scale"]["domain"]
    assert low == 0
    assert 1 < high < 1.5
    *_, cross = marks(chart, "point")
    (where,) = rows(chart, cross)
    assert where["run"] == "bad"
    assert where["step"] == 40
    assert where["mean"] == pytest.approx(high)
    assert '["bad"]' in line["encoding"]["color"]["legend"]["labelExpr"]


def test_ratio_curves_show_the_edge() -> None:
    chart = figures.ratio_curves(table("ratio", ("a",)))
    (rule,), (band,) = marks(chart, "rule"), marks(chart, "rect")
    assert rows(chart, rule) == [{"low": 0.9, "mean": 1.0, "high": 1.1}]
    assert rule["mark"]["strokeDash"]
    assert (band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == ("low", "high")
    assert "sharpness / threshold" in titles(chart)


def test_edge_panels_keep_the_order_of_the_table_and_say_what_leaves_the_picture() -> None:
    late = pl.DataFrame({"panel": "z", "run": "ratio", "step": [10, 20, 30], "value": [0.5, math.nan, 30.0]})
    early = pl.DataFrame({"panel": "a", "run": "headroom", "step": [0, 5, 10], "value": [0.0, 0.9, 1.0]})
    panels = spec_of(figures.edge_panels(pl.concat([late, early]), highest=2.0))["concat"]
    assert [panel["title"]["text"] for panel in panels] == ["z (up to 30)", "a"]
    chart = figures.edge_panels(pl.concat([late, early]), highest=2.0)
    assert {tuple(line["encoding"]["y"]["scale"]["domain"]) for line in marks(chart, "line")} == {(0.0, 2.0)}
    assert all(line["encoding"]["color"]["scale"]["domain"] == ["ratio", "headroom"] for line in marks(chart, "line"))
    assert [rows(chart, rule)[0]["mean"] for rule in marks(chart, "rule")] == [1.0, 1.0]


def test_a_long_run_is_thinned_keeps_its_spike_and_says_so() -> None:
    ratio = np.ones(20_000)
    ratio[12_345] = 1.7
    chart = figures.ratio_curves(pl.DataFrame({"run": "long", "step": range(20_000), "ratio": ratio}))
    (line,), (band,) = marks(chart, "line"), marks(chart, "area")
    assert len(rows(chart, line)) <= 500
    assert max(row["high"] for row in rows(chart, band)) == 1.7
    assert "mean and range of up to 84 points" in titles(chart)


def test_eigenvalues_apart_have_a_panel_and_a_dashed_threshold_each() -> None:
    values = pl.concat([table("value").with_columns(k=k, value=pl.col("value") / k) for k in (1, 2, 3)])
    chart = figures.eigenvalue_curves(values, pl.DataFrame({"run": ["a", "b"], "threshold": [1.0, 2.0]}))
    specification = spec_of(chart)
    for panel, threshold in zip(specification["concat"], (1.0, 2.0), strict=True):
        eigenvalues, edge = (p for p in parts(panel) if p["mark"]["type"] == "line")
        fades = eigenvalues["encoding"]["opacity"]["scale"]
        assert fades["domain"] == ["1", "2", "3"]
        assert fades["range"] == sorted(fades["range"], reverse=True)
        assert {row["threshold"] for row in rows(chart, edge)} == {threshold}
        assert {row["step"] for row in rows(chart, edge)} == {0, STEPS - 1}
        assert edge["encoding"]["strokeDash"]["value"]
    headings = [panel["title"]["text"] for panel in specification["concat"]]
    assert headings == ["a, threshold 1", "b, threshold 2"]
    assert "sharpness λ (units of 1/η)" in titles(chart)


def test_eigenvalues_together_share_a_panel_and_colour_their_thresholds() -> None:
    moving = pl.DataFrame({"run": ["a", "a", "b", "b"], "step": [0, 59, 0, 59], "threshold": [1.0, 2.0, 2.0, 2.0]})
    chart = figures.eigenvalue_curves(table("value"), moving, layout="together")
    eigenvalues, edge = marks(chart, "line")
    assert edge["encoding"]["color"]["scale"] == eigenvalues["encoding"]["color"]["scale"]
    assert edge["encoding"]["strokeDash"]["scale"]["domain"] == ["threshold"]
    assert [row["threshold"] for row in rows(chart, edge)] == [1.0, 2.0, 2.0, 2.0]


def test_a_run_without_a_threshold_is_drawn_all_the_same() -> None:
    chart = figures.eigenvalue_curves(table("value"), pl.DataFrame({"run": ["a"], "threshold": [1.0]}))
    assert len(spec_of(chart)["concat"]) == 2
    assert [panel["title"]["text"] for panel in spec_of(chart)["concat"]] == ["a, threshold 1", "b"]


def test_a_single_run_has_its_threshold_written_beside_the_line() -> None:
    one = table("value").filter(pl.col("run") == "a")
    chart = figures.eigenvalue_curves(one, pl.DataFrame({"run": ["a"], "threshold": [1.0]}), layout="together")
    assert [p["mark"]["text"] for p in marks(chart, "text")] == ["threshold 1"]


@pytest.mark.parametrize(
    ("values", "align", "above"),
    [
        ([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0], "left", True),  # rises to the threshold
        ([3.0, 1.1, 1.2, 1.1, 1.2, 1.1, 1.2, 1.1], "left", False),  # stays just above it
        ([0.9, 1.1, 0.9, 1.1, 2.0, 2.0, 2.1, 2.1], "right", False),  # around it, and then far above
        ([1.1, 0.9, 1.1, 0.9, 0.3, 0.3, 0.3, 0.3], "right", True),  # around it, and then far below
    ],
)
def test_the_label_of_a_threshold_is_where_no_curve_is(values: list[float], align: str, above: bool) -> None:
    run = pl.DataFrame({"run": ["a"] * len(values), "step": range(len(values)), "value": values})
    chart = figures.eigenvalue_curves(run, pl.DataFrame({"run": ["a"], "threshold": [1.0]}), layout="together")
    (label,) = marks(chart, "text")
    assert (label["mark"]["align"], label["mark"]["dy"] < 0) == (align, above)


def test_spectral_density_is_the_sum_of_normal_densities() -> None:
    nodes, weights = np.array([-1.0, 0.0, 10.0]), np.array([0.2, 0.7, 0.1])
    spectrum = pl.DataFrame({"moment": "step 0", "node": nodes, "weight": 3 * weights})
    chart = figures.spectral_density(spectrum, threshold=12.0, width=0.5)
    (line,) = marks(chart, "line")
    drawn = pl.DataFrame(rows(chart, line))
    x, density = drawn["node"].to_numpy(), drawn["density"].to_numpy()
    wanted = sum(
        w * np.exp(-((x - n) ** 2) / (2 * 0.25)) / math.sqrt(2 * math.pi * 0.25)
        for n, w in zip(nodes, weights, strict=True)
    )
    seen = wanted > 1e-5 * wanted.max()
    np.testing.assert_allclose(density[seen], wanted[seen], rtol=1e-10)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    assert rows(chart, marks(chart, "rule")[0]) == [{"threshold": 12.0}]
    assert x.max() > 12.0
    assert {"eigenvalue λ", "density (per unit of λ)"} <= titles(chart)


def test_spectral_stems_start_at_zero_and_stay_in_rank() -> None:
    stems = pl.DataFrame({"moment": ["m"] * 3, "k": [1, 2, 3], "value": [5.0, 2.0, -0.5]})
    chart = figures.spectral_stems(stems, threshold=4.0)
    stem, line = marks(chart, "rule")
    assert rows(chart, stem) == [
        {"moment": "m", "k": k, "value": v, "base": 0.0} for k, v in ((1, 5), (2, 2), (3, -0.5))
    ]
    assert stem["encoding"]["y2"]["field"] == "base"
    assert stem["encoding"]["y"]["scale"]["domain"][0] < -0.5
    assert line["encoding"]["y"]["field"] == "threshold"


def test_predictions_against_measurements_lie_in_a_square_with_its_diagonal() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.choice([-1, 1], 5000) * 10 ** rng.uniform(-6, -2, 5000)
    measured = predicted.copy()
    measured[4321] *= -3
    pairs = pl.DataFrame({"run": "a", "predicted": predicted, "measured": measured})
    chart = figures.predicted_against_measured(pairs)
    (points,), (diagonal,) = marks(chart, "point"), marks(chart, "line")
    scales = [points["encoding"][channel]["scale"] for channel in ("x", "y")]
    assert scales[0] == scales[1]
    assert scales[0]["type"] == "symlog"
    assert all(row["predicted"] == row["measured"] for row in rows(chart, diagonal))
    drawn = rows(chart, points)
    assert len(drawn) <= 300
    assert any(row["measured"] == measured[4321] for row in drawn)  # the one that misses is never thinned away
    low, high = scales[0]["domain"]
    assert all(low <= row[c] <= high for row in drawn for c in ("predicted", "measured"))


def test_interval_dots_keep_order_expectation_and_runs_without_a_value() -> None:
    dots = pl.DataFrame(
        {
            "run": ["z", "a", "m"],
            "low": [0.9, 0.8, math.nan],
            "middle": [1.0, 0.9, math.nan],
            "high": [1.1, 1.2, math.inf],
        }
    )
    chart = figures.interval_dots(dots, expected=1.0, near=0.1)
    (dot,) = marks(chart, "point")
    interval = marks(chart, "rule")[-1]
    assert dot["encoding"]["y"]["scale"]["domain"] == ["z", "a", "m"]
    assert [row["run"] for row in rows(chart, dot)] == ["z", "a"]
    assert (interval["encoding"]["x"]["field"], interval["encoding"]["x2"]["field"]) == ("low", "high")
    (word,) = marks(chart, "text")
    assert rows(chart, word) == [{"run": "m"}]
    assert rows(chart, marks(chart, "rect")[0]) == [{"low": 0.9, "middle": 1.0, "high": 1.1}]


CHARTS: dict[str, tuple[Callable[[pl.DataFrame], Any], pl.DataFrame, str]] = {
    "loss": (figures.loss_curves, table("loss"), "loss"),
    "eigenvalues": (figures.eigenvalue_curves, table("value"), "value"),
    "ratio": (figures.ratio_curves, table("ratio"), "ratio"),
    "edge": (figures.edge_panels, table("value").with_columns(panel=pl.lit("p")), "value"),
    "profiles": (figures.profile_curves, pl.DataFrame({"run": ["a"], "x": [0.0], "value": [1.0]}), "value"),
    "density": (figures.spectral_density, pl.DataFrame({"moment": ["m"], "node": [1.0], "weight": [1.0]}), "node"),
    "stems": (figures.spectral_stems, pl.DataFrame({"moment": ["m"], "k": [1], "value": [1.0]}), "value"),
    "scatter": (
        figures.predicted_against_measured,
        pl.DataFrame({"run": ["a"], "predicted": [1.0], "measured": [1.0]}),
        "measured",
    ),
    "interval": (
        figures.interval_dots,
        pl.DataFrame({"run": ["a"], "low": [0.0], "middle": [1.0], "high": [2.0]}),
        "middle",
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_bad_tables_are_refused_in_one_line(name: str) -> None:
    draw, good, column = CHARTS[name]
    spec_of(draw(good))
    for bad, names in (
        (good.clear(), "empty"),
        (good.drop(column), f"no column {column}"),
        (good.with_columns(pl.lit(math.nan).alias(column)), "finite"),
        (good.with_columns(pl.lit("much").alias(column)), column),
    ):
        with pytest.raises(InputError, match=names) as caught:
            draw(bad)
        assert "\n" not in str(caught.value)


def test_a_single_value_has_axes_too() -> None:
    one = pl.DataFrame({"run": ["a"], "step": [0], "loss": [0.3], "value": [0.0], "ratio": [0.5]})
    for chart in (figures.loss_curves(one), figures.eigenvalue_curves(one), figures.ratio_curves(one)):
        for part in parts(spec_of(chart)):
            for channel in ("x", "y"):
                low, high = part["encoding"].get(channel, {}).get("scale", {}).get("domain", [0, 1])
                assert low < high


@given(low=st.floats(1e-6, 1e6), ratio=st.floats(1.001, 1e12))
def test_a_logarithmic_axis_always_has_ticks_to_read(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    inside = [t for t in ticks if low <= t <= low * ratio]
    assert 3 <= len(inside) <= 15
    assert ticks == sorted(ticks)
