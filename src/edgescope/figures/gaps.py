"""A target of many runs against one measure after the other: small scatter plots that share their vertical axis."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

SIDE = 150
COLUMNS = 3


@shown_as_picture
def scatter_panels(table: pl.DataFrame, *, y_title: str, colour: str = "learning rate", shape: str = "batch") -> Chart:
    """A panel a measure, a point a run: colour by one hyper-parameter (dark is small), shape by another.

    ``table`` has the columns ``measure``, ``value``, ``target`` and those that ``colour`` and ``shape`` name; panels
    are in the order of the table. Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "scatter panels"
    columns = {"measure": "name", "value": "number", "target": "number", colour: "number", shape: "number"}
    table = check_table(table, columns, what)
    shown = table.filter(pl.col("value").is_finite() & pl.col("target").is_finite())
    if shown.is_empty():
        raise InputError(f"the table for {what} has no finite pair")
    keys = {column: sorted(shown[column].unique().to_list()) for column in (colour, shape)}
    colours = alt.Scale(domain=keys[colour], range=look.colours(len(keys[colour])))
    shapes = alt.Scale(domain=keys[shape], range=look.shapes(len(keys[shape])))
    panels: list[Chart] = []
    measures = shown["measure"].unique(maintain_order=True).to_list()
    side = SIDE if len(measures) > 1 else look.HEIGHT
    for number, measure in enumerate(measures):
        rows = shown.filter(pl.col("measure") == measure)
        x = alt.X("value", type="quantitative", title=measure, scale=alt.Scale(zero=False, nice=True))
        y_axis = alt.Axis(title=None if number % COLUMNS else y_title, labelExpr=PLAIN, tickCount=5)
        panels.append(
            alt.Chart(inline(rows))
            .mark_point(size=42, strokeWidth=1.6, opacity=1)
            .encode(
                x=x.axis(labelExpr=PLAIN, tickCount=4),
                y=alt.Y("target", type="quantitative", axis=y_axis, scale=alt.Scale(zero=False)),
                color=alt.Color(colour, type="ordinal", scale=colours, legend=alt.Legend(title=colour)),
                shape=alt.Shape(shape, type="ordinal", scale=shapes, legend=alt.Legend(title=shape)),
            )
            .properties(width=side, height=side)
        )
    return alt.concat(*panels, columns=COLUMNS)
