"""Test error against how far a network is from the flattest: does flatness explain it?"""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

WIDTH, HEIGHT = 420, 300


@shown_as_picture
def flatness_against_error(table: pl.DataFrame, *, x_title: str = "trace", expected: float | None = None) -> Chart:
    """A point a network: test error against its sharpness; dashed: ``expected``, the least there can be.

    ``table`` has the columns ``network`` (colour), ``method`` (shape), ``sharpness`` and ``error``. Raises
    :class:`InputError` for a table without rows, columns or finite pairs.
    """
    what = "a chart of error against flatness"
    table = check_table(table, {"network": "name", "method": "name", "sharpness": "number", "error": "number"}, what)
    shown = table.filter(pl.col("sharpness").is_finite() & (pl.col("sharpness") > 0) & pl.col("error").is_finite())
    if shown.is_empty():
        raise InputError(f"the table for {what} has no finite pair")
    networks, methods = (shown[c].unique(maintain_order=True).to_list() for c in ("network", "method"))
    x_scale, x_axis = log_axis(x_title, [*shown["sharpness"], *([] if expected is None else [expected])])
    errors: list[float] = shown["error"].to_list()
    y_scale, y_axis = linear_axis("test error", errors)
    if min(errors) > max(errors) / 2:  # close to each other, so that an axis from zero would hide the differences
        air = 0.2 * ((max(errors) - min(errors)) or max(errors))
        y_scale = alt.Scale(domain=[min(errors) - air, max(errors) + air], nice=False, zero=False)
    kinds = alt.Legend() if len(methods) > 1 else None
    points = (
        alt.Chart(inline(shown))
        .mark_point(size=70, strokeWidth=1.8, opacity=1)
        .encode(
            x=alt.X("sharpness", type="quantitative", scale=x_scale, axis=x_axis),
            y=alt.Y("error", type="quantitative", scale=y_scale, axis=y_axis),
            color=alt.Color("network", type="nominal", scale=run_scales(networks)[0], legend=alt.Legend()),
            shape=alt.Shape("method", type="nominal", scale=run_scales(methods)[1], legend=kinds),
        )
    )
    layers = [points.properties(width=WIDTH, height=HEIGHT)]
    if expected is not None:
        rule = alt.Chart(inline(pl.DataFrame({"sharpness": [float(expected)]}))).mark_rule(**look.EXPECTED)
        layers.insert(0, rule.encode(x=alt.X("sharpness", type="quantitative")))
    return alt.layer(*layers)
