"""Test error against how far a network is from the flattest: does flatness explain it?"""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import linear_axis, log_axis
from edgescope.figures.lines import Chart, inline, run_scales
from edgescope.figures.thin import check_table

WIDTH, HEIGHT = 420, 300


def flatness_against_error(table: pl.DataFrame) -> Chart:
    """A point a network: test error against trace over the least trace; dashed: 1, below which no interpolator lies.

    ``table`` has the columns ``network`` (colour), ``method`` (shape), ``excess`` and ``error``. Raises
    :class:`InputError` for a table without rows, columns or finite pairs.
    """
    what = "a chart of error against flatness"
    table = check_table(table, {"network": "name", "method": "name", "excess": "number", "error": "number"}, what)
    shown = table.filter(pl.col("excess").is_finite() & (pl.col("excess") > 0) & pl.col("error").is_finite())
    if shown.is_empty():
        raise InputError(f"the table for {what} has no finite pair")
    networks, methods = (shown[c].unique(maintain_order=True).to_list() for c in ("network", "method"))
    x_scale, x_axis = log_axis("trace over the least trace", [*shown["excess"], 1.0], channel=alt.X)
    y_scale, y_axis = linear_axis("test error", shown["error"].to_list())
    points = (
        alt.Chart(inline(shown))
        .mark_point(size=70, strokeWidth=1.8, opacity=1)
        .encode(
            x=alt.X("excess", type="quantitative", scale=x_scale, axis=x_axis),
            y=alt.Y("error", type="quantitative", scale=y_scale, axis=y_axis),
            color=alt.Color("network", type="nominal", scale=run_scales(networks)[0], legend=alt.Legend()),
            shape=alt.Shape("method", type="nominal", scale=run_scales(methods)[1], legend=alt.Legend()),
        )
    )
    rule = alt.Chart(inline(pl.DataFrame({"excess": [1.0]}))).mark_rule(**look.EXPECTED)
    return alt.layer(rule.encode(x=alt.X("excess", type="quantitative")), points).properties(width=WIDTH, height=HEIGHT)
