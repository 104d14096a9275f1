"""Correlations of many measures with a few targets, with their intervals and their figures: a table that is drawn."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

ROW = 34
PANEL = 150


@shown_as_picture
def correlation_dots(table: pl.DataFrame) -> Chart:
    """A row a measure, a panel a statistic, a dot a target with its interval and its figure; dashed: 0.

    ``table`` has the columns ``measure``, ``statistic``, ``target``, ``low``, ``middle`` and ``high``, all
    correlations in [-1, 1]; rows and panels are in the order of the table. Raises :class:`InputError` for a table
    without rows, columns or finite values.
    """
    what = "a chart of correlations"
    columns = dict.fromkeys(("measure", "statistic", "target"), "name")
    columns |= dict.fromkeys(("low", "middle", "high"), "number")
    table = check_table(table, columns, what)
    shown = table.filter(pl.all_horizontal(pl.col(c).is_finite() for c in ("low", "middle", "high")))
    if shown.is_empty():
        raise InputError(f"the table for {what} has no finite value")
    measures = table["measure"].unique(maintain_order=True).to_list()
    targets = table["target"].unique(maintain_order=True).to_list()
    colours, shapes = run_scales(targets)
    offset = alt.YOffset("target", type="nominal", scale=alt.Scale(domain=targets, paddingInner=0.2, paddingOuter=0.35))
    panels: list[Chart] = []
    for number, statistic in enumerate(shown["statistic"].unique(maintain_order=True).to_list()):
        rows = shown.filter(pl.col("statistic") == statistic).with_columns(
            text=pl.col("middle").map_elements(lambda v: f"{v:+.2f}", return_dtype=pl.String), edge=pl.lit(1.14)
        )
        axis = alt.Axis(title=None, labels=not number, labelLimit=230, labelPadding=8, grid=True, ticks=False)
        y = alt.Y("measure", type="nominal", sort=measures, scale=alt.Scale(domain=measures), axis=axis)
        scale = alt.Scale(domain=[-1.05, 1.62], nice=False)
        x_axis = alt.Axis(title=statistic, values=[-1, -0.5, 0, 0.5, 1], grid=True, format="+.1f")
        colour = alt.Color("target", type="nominal", scale=colours, legend=alt.Legend(orient="top"))
        shape = alt.Shape("target", type="nominal", scale=shapes, legend=alt.Legend(orient="top"))
        chart = alt.Chart(inline(rows)).encode(y=y, yOffset=offset, color=colour)

        def along(column: str, scale: alt.Scale = scale, axis: alt.Axis = x_axis) -> alt.X:
            return alt.X(column, type="quantitative", scale=scale, axis=axis)

        zero = alt.Chart(inline(pl.DataFrame({"zero": [0.0]}))).mark_rule(**look.EXPECTED).encode(x=along("zero"))
        panels.append(
            alt.layer(
                zero,
                chart.mark_rule(strokeWidth=2.2, opacity=0.55).encode(x=along("low"), x2=alt.X2("high")),
                chart.mark_point(size=46, filled=True, opacity=1).encode(x=along("middle"), shape=shape),
                chart.mark_text(align="left", fontSize=9, font=look.FONT).encode(x=along("edge"), text="text:N"),
            ).properties(height=ROW * len(measures), width=PANEL)
        )
    return alt.hconcat(*panels, spacing=14)
