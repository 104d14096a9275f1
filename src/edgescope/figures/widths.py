"""Sharpness and loss over the learning rate at several widths of a network."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures.axes import PLAIN, log_axis, log_ticks
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.look import HEIGHT, WIDTH
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

PANEL = 0.62
"""The height of a panel, as a share of that of a whole figure."""


@shown_as_picture
def width_panels(table: pl.DataFrame, *, loss: str = "test loss", sharpness: str = "sharpness") -> Chart:
    """The loss over the learning rate with a line for each width, and the sharpness over the width with a line for each
    learning rate.

    ``table`` has the columns ``width``, ``lr``, ``loss`` and ``sharpness``, a row for each width and rate; rows without
    a finite value are left out of the panel. ``loss`` and ``sharpness`` are the titles of the vertical axes. Raises
    :class:`InputError` for a table without rows, columns or finite positive values.
    """
    what = "a chart over widths"
    table = check_table(table, dict.fromkeys(("width", "lr", "loss", "sharpness"), "number"), what)
    panels = []
    for x, x_title, y, y_title, by in (
        ("lr", "learning rate η", "loss", loss, "width"),
        ("width", "width", "sharpness", sharpness, "lr"),
    ):
        rows = table.filter(pl.col(y).is_finite() & (pl.col(y) > 0) & (pl.col(x) > 0)).sort(by, x)
        if not rows.is_empty():
            panels.append(_panel(rows, x, x_title, y, y_title, by))
    if not panels:
        raise InputError(f"the table for {what} has no finite positive value", expected="at least one run that ended")
    return alt.vconcat(*panels, spacing=14).resolve_scale(color="independent", shape="independent")


def _panel(rows: pl.DataFrame, x: str, x_title: str, y: str, y_title: str, by: str) -> Chart:
    heading = "width" if by == "width" else "η"
    rows = rows.with_columns(series=pl.col(by).map_elements(lambda value: f"{heading} {value:g}", pl.String))
    names = rows["series"].unique(maintain_order=True).to_list()
    x_scale, _ = log_axis(x_title, rows[x].to_list())
    values = sorted(set(rows["width"])) if x == "width" else log_ticks(*x_scale["domain"])
    y_scale, y_axis = log_axis(y_title, rows[y].to_list())
    colours, shapes = run_scales(names)
    key = alt.Legend(title=None)
    chart = alt.Chart(inline(rows)).encode(
        x=alt.X(x, type="quantitative", scale=x_scale, axis=alt.Axis(title=x_title, values=values, labelExpr=PLAIN)),
        y=alt.Y(y, type="quantitative", scale=y_scale, axis=y_axis),
        color=alt.Color("series", type="nominal", scale=colours, legend=key),
    )
    shape = alt.Shape("series", type="nominal", scale=shapes, legend=key)
    points = chart.mark_point(size=40, filled=True, opacity=1).encode(shape=shape)
    return alt.layer(chart.mark_line(strokeWidth=1.3, opacity=0.7), points).properties(
        width=WIDTH, height=round(PANEL * HEIGHT)
    )
