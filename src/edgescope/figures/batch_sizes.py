"""Curvatures against the size of mini-batches: a panel a setting, a line a quantity, means over runs with intervals."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

WIDEST = 1.5
"""Intervals are drawn up to this multiple of the largest mean: those of two runs may be wider than the picture."""


@shown_as_picture
def batch_size_curves(
    table: pl.DataFrame,
    *,
    expected: float | None = None,
    near: float = 0.0,
    name: str = "",
    title: str = "curvature · η",
) -> Chart:
    """Means with their intervals against the batch size on a logarithmic axis, with a tick at each size.

    ``table`` has the columns ``panel``, ``quantity``, ``batch``, ``low``, ``middle`` and ``high``; panels and
    quantities are in its order. ``expected`` draws a dashed line across every panel, ``name`` is written at its end,
    and ``near`` shades that far to both sides of it. Rows with a size that is not positive, or without a finite
    ``middle``, are left out; an interval that is not finite is not drawn. Raises :class:`InputError` for a table
    without rows, columns or values that can be shown.
    """
    what = "a chart over batch sizes"
    columns = {"panel": "name", "quantity": "name"} | dict.fromkeys(("batch", "low", "middle", "high"), "number")
    table = check_table(table, columns, what).filter(pl.col("batch") > 0, pl.col("middle").is_finite())
    if table.is_empty():
        raise InputError(
            f"the table for {what} has no value that can be shown", expected="finite values, sizes above 0"
        )
    names = table["panel"].unique(maintain_order=True).to_list()
    quantities = table["quantity"].unique(maintain_order=True).to_list()
    marked = [] if expected is None else [expected - near, expected + near]
    top = max([*table["middle"], *marked])
    reach = table["high"].filter(table["high"].is_finite()).to_list()
    y = linear_axis(title, [*table["middle"], *marked, min(WIDEST * top, max(reach, default=top))])
    panels = []
    for place, panel in enumerate(names):
        chart = _panel(table.filter(pl.col("panel") == panel), quantities, y, expected, near, name, legend=not place)
        if len(names) > 1:
            chart = chart.properties(
                title=alt.TitleParams(panel, **look.NAME), width=look.PANEL_WIDTH, height=look.PANEL_HEIGHT
            )
        panels.append(chart)
    return panels[0] if len(panels) == 1 else alt.concat(*panels, columns=2)


def _panel(
    rows: pl.DataFrame,
    quantities: list[str],
    y: tuple[alt.Scale, alt.Axis],
    expected: float | None,
    near: float,
    name: str,
    legend: bool,
) -> Chart:
    sizes = sorted(set(rows["batch"]))
    scale = alt.Scale(type="log", base=2, domain=[sizes[0] / 1.25, sizes[-1] * 1.25], nice=False)
    x = alt.X(
        "batch", type="quantitative", scale=scale, axis=alt.Axis(title="batch size", values=sizes, labelExpr=PLAIN)
    )
    height: dict[str, Any] = {"type": "quantitative", "scale": y[0], "axis": y[1]}
    colours, shapes = run_scales(quantities)
    key = alt.Legend() if legend and len(quantities) > 1 else None
    colour = alt.Color("quantity", type="nominal", scale=colours, legend=key)
    layers: list[Chart] = []
    if expected is not None:
        line = {"low": [expected - near], "middle": [expected], "high": [expected + near], "name": [name]}
        edge = alt.Chart(inline(pl.DataFrame(line)))
        if near > 0:
            layers.append(edge.mark_rect(**look.NEAR).encode(y=alt.Y("low", **height), y2=alt.Y2("high")))
        layers.append(edge.mark_rule(**look.EXPECTED).encode(y=alt.Y("middle", **height)))
        word = edge.mark_text(align="left", dx=4, color=look.ALARM, **look.NOTE)
        layers.append(word.encode(x=alt.value("width"), y=alt.Y("middle", **height), text="name:N"))
    ends = rows.filter(pl.col("low").is_finite() & pl.col("high").is_finite())
    if not ends.is_empty():
        base = alt.Chart(inline(ends)).encode(x=x, color=colour)
        rule = base.mark_rule(strokeWidth=1.6, opacity=0.6, clip=True)
        layers.append(rule.encode(y=alt.Y("low", **height), y2=alt.Y2("high")))
    chart = alt.Chart(inline(rows)).encode(x=x, y=alt.Y("middle", **height), color=colour)
    layers.append(chart.mark_line(strokeWidth=1.7, clip=True))
    shape = alt.Shape("quantity", type="nominal", scale=shapes, legend=key)
    layers.append(chart.mark_point(size=52, filled=True, opacity=1, clip=True).encode(shape=shape))
    return alt.layer(*layers)
