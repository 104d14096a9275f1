"""A sharpness between two bounds and the smoothness that steps met, over their threshold, one panel a run."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import linear_axis, x_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table, thin

HIGHEST = 3.0
"""Ratios beyond this leave the picture: a single wild step would flatten all others."""


@shown_as_picture
def bracket_curves(
    sharpness: pl.DataFrame, smoothness: pl.DataFrame, *, columns: int = 3, title: str = "S and D over threshold"
) -> Chart:
    """Panels, one a run in the order of ``sharpness``: S dark, shaded up to its certificate, D light, 1 dashed.

    ``sharpness`` has the columns ``run``, ``step``, ``lower`` and ``upper`` (NaN where there was no certificate: the
    shade spans the gap), ``smoothness`` has ``run``, ``step`` and ``value``, its range shaded where several steps share
    a point; all over the threshold. Raises :class:`InputError` for tables without rows, columns or finite values.
    """
    what = "bracket curves"
    wanted = {"run": "name", "step": "number"}
    sharpness = check_table(sharpness, wanted | {"lower": "number", "upper": "number"}, what)
    sharpness = sharpness.filter(pl.col("lower").is_finite())
    if sharpness.is_empty():
        raise InputError(f"the table for {what} has no finite value")
    steps = thin(check_table(smoothness, wanted | {"value": "number"}, what), "step", "value", ["run"])
    runs = sharpness["run"].unique(maintain_order=True).to_list()
    return alt.concat(
        *(
            _panel(
                sharpness.filter(pl.col("run") == run),
                steps.filter(pl.col("run") == run),
                title if place % columns == 0 else None,
                x_titled=place + columns >= len(runs),
            ).properties(
                title=alt.TitleParams(run, fontSize=12, fontWeight="normal", offset=6),
                width=look.PANEL_WIDTH * 2 / columns,
                height=look.PANEL_HEIGHT,
            )
            for place, run in enumerate(runs)
        ),
        columns=columns,
    )


def _panel(sharpness: pl.DataFrame, steps: pl.DataFrame, title: str | None, x_titled: bool) -> Chart:
    between = sharpness.with_columns(upper=pl.when(pl.col("upper").is_finite()).then("upper").interpolate())
    certified = between.drop_nulls("upper").with_columns(upper=pl.max_horizontal("lower", "upper"))
    met = steps["mean"].to_list()
    highest = max([1.2, *sharpness["lower"], *certified["upper"], *met])
    lowest = max(-1.0, min([0.0, *met]))
    y_scale, y_axis = linear_axis(title, [lowest, min(highest, HIGHEST)])
    across, across_axis = x_axis("step", sharpness["step"].to_list(), titled=x_titled)
    across_axis.tickCount = 3
    x = alt.X("step", type="quantitative", scale=across, axis=across_axis)
    height: dict[str, Any] = {"type": "quantitative", "scale": y_scale, "axis": y_axis}
    dark, light = look.PALETTE[0], look.PALETTE[5]
    layers = []
    if not steps.is_empty():
        chart = alt.Chart(inline(steps)).encode(x=x)
        if int(steps["rows"].max()) > 1:  # type: ignore[arg-type]
            band = chart.mark_area(color=light, opacity=0.3, clip=True)
            layers.append(band.encode(y=alt.Y("low", **height), y2=alt.Y2("high")))
        layers.append(chart.mark_line(color=light, strokeWidth=1.2, clip=True).encode(y=alt.Y("mean", **height)))
    if not certified.is_empty():
        band = alt.Chart(inline(certified)).mark_area(color=dark, opacity=0.22, clip=True)
        layers.append(band.encode(x=x, y=alt.Y("lower", **height), y2=alt.Y2("upper")))
    line = alt.Chart(inline(sharpness)).mark_line(color=dark, strokeWidth=1.8, clip=True)
    layers.append(line.encode(x=x, y=alt.Y("lower", **height)))
    edge = alt.Chart(inline(pl.DataFrame({"one": [1.0]}))).mark_rule(**look.EXPECTED)
    return alt.layer(*layers, edge.encode(y=alt.Y("one", **height)))
