"""Times of escape: their means against inverse temperature, and how they are distributed."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table


@shown_as_picture
def arrhenius_lines(table: pl.DataFrame, expected: pl.DataFrame | None = None, *, x_title: str = "1 / T") -> Chart:
    """A line a run through its mean times on a logarithmic axis, with intervals; dashed: what was expected.

    ``table`` has the columns ``run``, ``x``, ``low``, ``middle`` and ``high``; ``expected`` has ``x`` and ``y``.
    Raises :class:`InputError` for a table without rows, columns or positive values.
    """
    what = "a chart of escape times"
    columns = {"run": "name", "x": "number", "low": "number", "middle": "number", "high": "number"}
    table = check_table(table, columns, what)
    table = table.filter(pl.all_horizontal(pl.col(c).is_finite() & (pl.col(c) > 0) for c in ("low", "middle", "high")))
    if table.is_empty():
        raise InputError(f"the table for {what} has no positive value")
    colours, shapes = run_scales(table["run"].unique(maintain_order=True).to_list())
    scale, axis = log_axis("mean time (steps · η)", [*table["low"], *table["high"]])
    x_axis = alt.Axis(title=x_title, labelExpr=PLAIN, tickCount=6)
    x = alt.X("x", type="quantitative", axis=x_axis, scale=alt.Scale(zero=False, nice=False, padding=10))
    colour = alt.Color("run", type="nominal", scale=colours, legend=alt.Legend())
    shape = alt.Shape("run", type="nominal", scale=shapes, legend=alt.Legend())

    def height(column: str) -> alt.Y:
        return alt.Y(column, type="quantitative", scale=scale, axis=axis)

    chart = alt.Chart(inline(table)).encode(x=x, color=colour)
    layers: list[Chart] = [
        chart.mark_rule(strokeWidth=2, opacity=0.5).encode(y=height("low"), y2=alt.Y2("high")),
        chart.mark_line(strokeWidth=1.2).encode(y=height("middle")),
        chart.mark_point(size=46, filled=True, opacity=1).encode(y=height("middle"), shape=shape),
    ]
    if expected is not None:
        lines = alt.Chart(inline(check_table(expected, {"x": "number", "y": "number"}, what)))
        layers.append(lines.mark_line(clip=True, **look.EXPECTED).encode(x=x, y=height("y")))
    return alt.layer(*layers)


@shown_as_picture
def survival_curves(table: pl.DataFrame) -> Chart:
    """A step line a run: the share that has not escaped, on a logarithmic axis; dashed: escape without memory.

    ``table`` has the columns ``run``, ``time`` (over the mean time of the run) and ``share``. Raises
    :class:`InputError` for a table without rows, columns or positive shares.
    """
    what = "survival curves"
    table = check_table(table, {"run": "name", "time": "number", "share": "number"}, what)
    table = table.filter(pl.col("share").is_finite() & (pl.col("share") > 0) & pl.col("time").is_finite())
    if table.is_empty():
        raise InputError(f"the table for {what} has no positive value")
    colours, _ = run_scales(table["run"].unique(maintain_order=True).to_list())
    last, least = float(table["time"].max()), float(table["share"].min())  # type: ignore[arg-type]
    scale, axis = log_axis("share still trapped", [least, 1.0])
    x_scale, x_axis = alt.Scale(domain=[0, last], nice=True), alt.Axis(title="time / mean time", labelExpr=PLAIN)
    x = alt.X("time", type="quantitative", axis=x_axis, scale=x_scale)
    y = alt.Y("share", type="quantitative", scale=scale, axis=axis)
    end = min(last, -math.log(least))
    expected = pl.DataFrame({"time": [0.0, end], "share": [1.0, math.exp(-end)]})  # straight on this axis
    colour = alt.Color("run", type="nominal", scale=colours, legend=alt.Legend())
    lines = alt.Chart(inline(table)).mark_line(strokeWidth=1.6, interpolate="step-after")
    dashed = alt.Chart(inline(expected)).mark_line(clip=True, **look.EXPECTED)
    return alt.layer(lines.encode(x=x, y=y, color=colour), dashed.encode(x=x, y=y))
