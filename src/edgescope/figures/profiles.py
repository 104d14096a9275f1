"""A function along a line: the loss along a direction or a step, with the points at which a run was."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

AIR = 0.05
"""Space beyond the lowest and the highest value, as a share of their distance."""


@shown_as_picture
def profile_curves(
    table: pl.DataFrame,
    points: pl.DataFrame | None = None,
    *,
    marks: pl.DataFrame | None = None,
    x_title: str = "distance along the direction",
    y_title: str = "loss",
) -> Chart:
    """Curves of ``value`` over ``x``, one for each ``run``, on linear axes that need not begin at zero.

    ``table`` has the columns ``run``, ``x`` and ``value``. ``points`` has the same columns: dots, in the colours of
    their runs, joined in their order, such as the places of a run at consecutive steps. ``marks`` has ``x`` and
    ``name``: dashed vertical lines with their names. Rows that are not finite are left out. Raises
    :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "profiles"
    columns = {"run": "name", "x": "number", "value": "number"}
    finite = pl.col("x").is_finite() & pl.col("value").is_finite()
    rows = check_table(table, columns, what).filter(finite)
    if rows.is_empty():
        raise InputError(f"the table for {what} has no finite value", expected="finite x and value")
    dots = rows.clear() if points is None else check_table(points, columns, "points of profiles").filter(finite)
    runs = rows["run"].unique(maintain_order=True).to_list()
    values = [*rows["value"], *dots["value"]]
    air = AIR * ((max(values) - min(values)) or abs(max(values)) or 1.0)
    height = alt.Scale(domain=[min(values) - air, max(values) + air], nice=False, zero=False)
    places = [float(place) for place in rows["x"]]
    across: dict[str, Any] = {
        "type": "quantitative",
        "scale": alt.Scale(domain=[min(places), max(places)], nice=False, zero=False),
        "axis": alt.Axis(title=x_title, labelExpr=PLAIN, tickCount=6),
    }
    y = alt.Y("value", type="quantitative", scale=height, axis=alt.Axis(title=y_title, labelExpr=PLAIN, tickCount=6))
    legend = alt.Legend(symbolType="stroke", symbolSize=400) if len(runs) > 1 else None
    colour = alt.Color("run", type="nominal", scale=run_scales(runs)[0], legend=legend)
    layers: list[Chart] = []
    if marks is not None:
        named = check_table(marks, {"x": "number", "name": "name"}, "marks of profiles")
        base = alt.Chart(inline(named)).encode(x=alt.X("x", **across))
        layers.append(base.mark_rule(**look.EXPECTED))
        word = base.mark_text(align="left", dx=5, baseline="top", color=look.ALARM, **look.NOTE)
        layers.append(word.encode(y=alt.value(2), text="name:N"))
    base = alt.Chart(inline(rows)).encode(x=alt.X("x", **across), y=y, color=colour)
    layers.append(base.mark_line(strokeWidth=1.7, clip=True).encode(order=alt.Order("x", type="quantitative")))
    if not dots.is_empty():
        seen = alt.Chart(inline(dots.with_row_index("place"))).encode(x=alt.X("x", **across), y=y, color=colour)
        order = alt.Order("place", type="quantitative")
        layers.append(seen.mark_line(strokeWidth=0.8, opacity=0.5, clip=True).encode(order=order))
        layers.append(seen.mark_circle(size=34, opacity=1, clip=True))
    return alt.layer(*layers)
