"""The largest eigenvalues of the Hessian against step or time, with the dashed threshold of each run."""

from __future__ import annotations

from typing import Literal

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import X, limits, linear_axis, x_title
from edgescope.figures.lines import Lines, inline, run_scales
from edgescope.figures.thin import check_table


def eigenvalue_curves(
    table: pl.DataFrame,
    thresholds: pl.DataFrame | None = None,
    *,
    x: X = "step",
    layout: Literal["apart", "together"] = "apart",
    columns: int = 2,
    title: str = "sharpness λ (units of 1/η)",
) -> alt.TopLevelMixin:
    """Eigenvalues in one panel a run, each with its own axis (``"apart"``), or all in one (``"together"``).

    ``table`` has the columns ``run``, ``step`` (or ``time``), ``value`` and, where there are several eigenvalues,
    ``k`` (1 is the largest); the further ones are drawn fainter. ``thresholds`` has ``run``, ``threshold`` and, where
    it moves along the run, ``step`` (or ``time``). Raises :class:`InputError` for tables without rows or columns.
    """
    what = "eigenvalue curves"
    wanted = {"run": "name", x: "number", "value": "number"}
    if "k" in table.columns:
        table = table.with_columns(pl.col("k").cast(pl.Int64))
        wanted["k"] = "name"
    lines = Lines.of(check_table(table, wanted, what), x, "value", ["run", *wanted.keys() & {"k"}], what)
    edges = _edges(lines, thresholds, x)
    if layout == "together":
        return _panel(lines, edges, lines.runs, title, x_title(x, lines.rows))
    panels = []
    for place, run in enumerate(lines.runs):
        row_ends = place + columns >= len(lines.runs)
        panel = _panel(
            lines.only(run),
            edges.filter(pl.col("run") == run),
            [run],
            title if place % columns == 0 else None,
            x_title(x, lines.rows) if row_ends else None,
        )
        heading = alt.TitleParams(run, fontSize=12, fontWeight="normal", offset=6)
        panels.append(panel.properties(title=heading, width=look.PANEL_WIDTH, height=look.PANEL_HEIGHT))
    return alt.concat(*panels, columns=columns)


def _edges(lines: Lines, thresholds: pl.DataFrame | None, x: str) -> pl.DataFrame:
    """The thresholds as lines: run, x, threshold; a constant one spans the whole of its run."""
    if thresholds is None:
        return pl.DataFrame(schema={"run": pl.String, x: pl.Float64, "threshold": pl.Float64})
    moving = x in thresholds.columns
    wanted = {"run": "name", "threshold": "number"} | ({x: "number"} if moving else {})
    edges = check_table(thresholds, wanted, "thresholds").filter(pl.col("threshold").is_finite())
    if not moving:
        span = lines.points.group_by("run", maintain_order=True).agg(
            pl.concat_list(pl.col(x).min(), pl.col(x).max()).alias(x)
        )
        edges = edges.join(span, on="run", maintain_order="left").explode(x)
    return edges.select("run", x, "threshold").filter(pl.col("run").is_in(lines.runs))


def _panel(lines: Lines, edges: pl.DataFrame, runs: list[str], title: str | None, along: str | None) -> alt.LayerChart:
    alone = len(runs) == 1
    scale, axis = linear_axis(title, [*limits(lines.points), *edges["threshold"]])
    x_axis = alt.Axis(title=along, tickCount=5)
    detail = {}
    if "k" in lines.points.columns:
        order = sorted(lines.points["k"].unique(), key=int)
        fades = [look.FADES[min(i, len(look.FADES) - 1)] for i in range(len(order))]
        detail["opacity"] = alt.Opacity("k", type="nominal", scale=alt.Scale(domain=order, range=fades), legend=None)
    layers = lines.layers(x_axis, scale, axis, detail, marked=pl.col("k") == order[0] if detail else None)
    if not edges.is_empty():
        colour = alt.value(look.ALARM) if alone else alt.Color("run", type="nominal", scale=run_scales(runs)[0])
        chart = alt.Chart(inline(edges)).encode(
            x=alt.X(lines.x, type="quantitative"), y=alt.Y("threshold", type="quantitative", scale=scale), color=colour
        )
        layers.append(chart.mark_line(strokeDash=look.DASH, strokeWidth=1.4, clip=True))
        if alone:
            layers.append(_label(edges, lines.x, scale))
    return alt.layer(*layers)


def _label(edges: pl.DataFrame, x: str, scale: alt.Scale) -> alt.Chart:
    """The value of the threshold, written on its line at the left, where sharpness is still below it."""
    first = edges.sort(x).head(1)
    text = f"threshold {first['threshold'][0]:.4g}"
    return (
        alt.Chart(inline(first))
        .mark_text(text=text, align="left", dx=4, dy=-7, color=look.ALARM, font=look.FONT, fontSize=11)
        .encode(x=alt.X(x, type="quantitative"), y=alt.Y("threshold", type="quantitative", scale=scale))
    )
