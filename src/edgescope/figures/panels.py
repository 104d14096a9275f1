"""Several series over the same steps, one panel below the other, each with a vertical axis of its own."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

HEIGHT = 92


@shown_as_picture
def stacked_panels(table: pl.DataFrame, *, marks: Mapping[str, float] | None = None) -> Chart:
    """A panel a quantity, a line a run, in the order of the table.

    ``table`` has the columns ``panel``, ``run``, ``step`` and ``value``. ``marks`` draws a dashed vertical line at a
    step for each name. Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "stacked panels"
    columns = {"panel": "name", "run": "name", "step": "number", "value": "number"}
    table = check_table(table, columns, what)
    names = table["panel"].unique(maintain_order=True).to_list()
    panels: list[Chart] = []
    for number, name in enumerate(names):
        rows = table.filter(pl.col("panel") == name)
        lines = Lines.of(rows, "step", "value", ["run"], what)
        scale = alt.Scale(domain=lines.limits(), nice=True, zero=False)
        axis = alt.Axis(title=name, labelExpr=PLAIN, tickCount=4)
        layers = lines.layers(scale, axis, x_titled=number == len(names) - 1, legend=not number)
        if marks:
            chart = alt.Chart(inline(pl.DataFrame({"step": [float(step) for step in marks.values()]})))
            layers.append(chart.mark_rule(**look.EXPECTED).encode(x=alt.X("step", type="quantitative")))
        panels.append(alt.layer(*layers).properties(height=HEIGHT, width=look.WIDTH))
    return alt.vconcat(*panels, spacing=10)
