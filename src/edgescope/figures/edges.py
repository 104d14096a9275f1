"""Quantities that are 1 at the edge of stability, over the steps of several runs: a panel a run, a line a quantity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.ratio import NEAR
from edgescope.figures.thin import check_table


@shown_as_picture
def edge_panels(table: pl.DataFrame, *, highest: float = 2.0, columns: int = 2) -> Chart:
    """A panel a run with the same vertical axis from 0 to ``highest``, a line at 1 and a band of 10% around it.

    ``table`` has the columns ``panel``, ``run`` (the quantity), ``step`` and ``value``; panels and quantities are in
    its order. A line that leaves the picture is cut off, and the name of its panel then says how far it goes. Raises
    :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "panels of ratios"
    table = check_table(table, {"panel": "name", "run": "name", "step": "number", "value": "number"}, what)
    whole = Lines.of(table, "step", "value", ["panel", "run"], what)
    band = alt.Chart(inline(pl.DataFrame({"low": [1 - NEAR], "mean": [1.0], "high": [1 + NEAR]})))
    scale = alt.Scale(domain=[0.0, highest], nice=False, zero=True)
    axis = alt.Axis(title=None, tickCount=4, labelExpr=PLAIN)
    height: dict[str, Any] = {"type": "quantitative", "scale": scale, "axis": axis}
    names = [name for name in table["panel"].unique(maintain_order=True) if name in set(whole.points["panel"])]
    panels: list[Chart] = []
    for place, name in enumerate(names):
        rows = table.filter(pl.col("panel") == name, pl.col("value").is_finite())
        lines = replace(Lines.of(rows, "step", "value", ["run"], what), runs=whole.runs)
        shaded = band.mark_rect(**look.NEAR).encode(y=alt.Y("low", **height), y2=alt.Y2("high"))
        edge = band.mark_rule(**look.EXPECTED).encode(y=alt.Y("mean", **height))
        chart = alt.layer(shaded, *lines.layers(scale, axis, x_titled=place + columns >= len(names)), edge)
        largest = float(rows["value"].max())  # type: ignore[arg-type]
        beyond = f" (up to {largest:.3g})" if largest > highest else ""
        heading = alt.TitleParams(f"{name}{beyond}", limit=look.PANEL_WIDTH, **look.NAME)
        width, height_of = (look.PANEL_WIDTH, look.PANEL_HEIGHT) if len(names) > 1 else (look.WIDTH, look.HEIGHT)
        panels.append(chart.properties(title=heading, width=width, height=height_of))
    return alt.concat(*panels, columns=columns)
