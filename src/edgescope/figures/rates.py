"""Quantities over the learning rate in multiples of the critical one, a panel each, several runs in one."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

HEIGHT = 120
AIR = 0.06


@shown_as_picture
def rate_panels(table: pl.DataFrame, *, expected: Mapping[str, pl.DataFrame] | None = None) -> Chart:
    """A panel a quantity, one below the other, a line with shapes a run; both in the order of the table.

    ``table`` has the columns ``panel``, ``run``, ``ratio`` (rate over critical rate, logarithmic axis) and ``value``;
    ``expected`` has for some panels a table of ``ratio`` and ``value`` that is drawn dashed. A thin line stands at the
    critical rate. Raises :class:`InputError` for a table without rows, columns, positive ratios or finite values.
    """
    what = "a chart over learning rates"
    table = check_table(table, {"panel": "name", "run": "name", "ratio": "number", "value": "number"}, what)
    table = table.filter(pl.col("value").is_finite())
    if table.is_empty() or not (table["ratio"] > 0).all():
        raise InputError(f"the table for {what} has no finite value, or a ratio that is not positive")
    runs = table["run"].unique(maintain_order=True).to_list()
    names = table["panel"].unique(maintain_order=True).to_list()
    x_scale, x_axis = log_axis("learning rate over the critical rate, η/η_c", [*table["ratio"], 1.0])
    panels = []
    for number, name in enumerate(names):
        last = number == len(names) - 1
        axis = alt.Axis(title=x_axis.title if last else None, values=x_axis["values"], labelExpr=PLAIN, labels=last)
        x = alt.X("ratio", type="quantitative", scale=x_scale, axis=axis)
        rows = table.filter(pl.col("panel") == name)
        panels.append(_panel(rows, x, name, runs, (expected or {}).get(name), legend=number == 0))
    return alt.vconcat(*panels, spacing=10)


def _panel(
    rows: pl.DataFrame, x: alt.X, title: str, runs: list[str], expected: pl.DataFrame | None, legend: bool
) -> Chart:
    low, high = float(rows["value"].min()), float(rows["value"].max())  # type: ignore[arg-type]
    air = AIR * ((high - low) or abs(high) or 1.0)
    scale = alt.Scale(domain=[low - air, high + air], nice=False, zero=False)
    y = alt.Y("value", type="quantitative", scale=scale, axis=alt.Axis(title=title, tickCount=4, labelExpr=PLAIN))
    critical = alt.Chart(inline(pl.DataFrame({"ratio": [1.0]})))
    layers = [critical.mark_rule(color=look.MUTED, strokeWidth=1).encode(x=x)]
    if expected is not None:
        layers.append(alt.Chart(inline(expected)).mark_line(clip=True, **look.EXPECTED).encode(x=x, y=y))
    colours, shapes = run_scales(runs)
    key = alt.Legend() if legend and len(runs) > 1 else None
    chart = alt.Chart(inline(rows)).encode(x=x, y=y, color=alt.Color("run", type="nominal", scale=colours, legend=key))
    layers.append(chart.mark_line(strokeWidth=1.4, opacity=0.7, clip=True))
    shape = alt.Shape("run", type="nominal", scale=shapes, legend=key)
    layers.append(chart.mark_point(size=34, filled=True, opacity=1, clip=True).encode(shape=shape))
    return alt.layer(*layers).properties(width=look.WIDTH, height=HEIGHT)
