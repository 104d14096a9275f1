"""Means over seeds with their intervals, against a logarithmic axis: one panel a quantity, one line a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis, log_axis, log_ticks
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

HEIGHT = 150
BESIDE = 285
"""Width of a panel that has another one beside it."""


@shown_as_picture
def seed_bands(
    table: pl.DataFrame,
    *,
    x_title: str = "epoch",
    logarithmic: Collection[str] = (),
    expected: Mapping[str, float] | None = None,
    columns: int = 1,
) -> Chart:
    """A panel a quantity, a line a run through its means, shaded over their intervals; ``x`` on a logarithmic axis.

    Panels stand below each other, or in so many ``columns``, then with their names above them.

    ``table`` has the columns ``panel``, ``run``, ``x``, ``low``, ``middle`` and ``high``; panels and runs are in its
    order, rows whose ``x`` is not positive are left out. ``logarithmic`` names panels with such an axis, where rows
    that are not positive are left out too; ``expected`` draws a dashed line at a value in a panel. Raises
    :class:`InputError` for a table without rows, columns or values that can be shown.
    """
    what = "bands over seeds"
    needed = {"panel": "name", "run": "name"} | dict.fromkeys(("x", "low", "middle", "high"), "number")
    table = check_table(table, needed, what)
    shown = table.filter(pl.col("x") > 0, pl.all_horizontal(pl.col("low", "middle", "high").is_finite()))
    shown = shown.filter(~pl.col("panel").is_in(list(logarithmic)) | (pl.col("middle") > 0))
    if shown.is_empty():
        raise InputError(f"the table for {what} has no value that can be shown", expected="finite values at x > 0")
    runs = shown["run"].unique(maintain_order=True).to_list()
    colours, shapes = run_scales(runs)
    places: list[float] = shown["x"].to_list()
    first, last = min(places), 1.05 * max(places)
    names = shown["panel"].unique(maintain_order=True).to_list()
    panels: list[Chart] = []
    for number, name in enumerate(names):
        rows = shown.filter(pl.col("panel") == name)
        limits: list[float] = [*rows["middle"].to_list(), *([expected[name]] if expected and name in expected else [])]
        if name not in logarithmic:  # where an interval of two seeds may be wider than the picture
            limits.append(min(1.4 * max(limits), max(rows["high"].to_list())))
        above = columns > 1
        scale, axis = (log_axis if name in logarithmic else linear_axis)("" if above else name, limits)
        lowest, highest = scale["domain"]
        rows = rows.with_columns(pl.col("low", "high").clip(lowest, highest))
        titled = x_title if number >= len(names) - columns else None
        x = alt.X(
            "x",
            type="quantitative",
            scale=alt.Scale(type="log", domain=[first, last], nice=False),
            axis=alt.Axis(title=titled, values=log_ticks(first, last), labelExpr=PLAIN),
        )
        y = alt.Y("middle", type="quantitative", scale=scale, axis=axis)
        legend = alt.Legend() if (above or not number) and len(runs) > 1 else None  # of all panels together
        colour = alt.Color("run", type="nominal", scale=colours, legend=legend)
        shape = alt.Shape("run", type="nominal", scale=shapes, legend=legend)
        chart = alt.Chart(inline(rows)).encode(x=x, color=colour)
        bottom = alt.Y("low", type="quantitative", scale=scale, axis=axis)
        layers = [
            chart.mark_area(opacity=0.16, clip=True).encode(y=bottom, y2=alt.Y2("high")),
            chart.mark_line(strokeWidth=1.7, clip=True).encode(y=y),
            chart.mark_point(size=34, filled=True, opacity=1, clip=True).encode(y=y, shape=shape),
        ]
        if expected and name in expected:
            rule = alt.Chart(inline(pl.DataFrame({"middle": [float(expected[name])]}))).mark_rule(**look.EXPECTED)
            layers.append(rule.encode(y=y))
        panel = alt.layer(*layers).properties(height=HEIGHT, width=BESIDE if above else look.WIDTH)
        panels.append(panel.properties(title=alt.TitleParams(name, **look.NAME)) if above else panel)
    return alt.concat(*panels, columns=columns, spacing=10)
