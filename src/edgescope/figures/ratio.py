"""Effective sharpness over threshold against step or time: one is the edge of stability."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import X, linear_axis, x_title
from edgescope.figures.lines import Lines, inline
from edgescope.figures.thin import check_table

NEAR = 0.1
"""Half the width of the shaded band around one."""

MOST = 2.5
"""The largest ratio that the axis goes to; what is above lies outside of the picture."""


def ratio_curves(table: pl.DataFrame, *, x: X = "step", title: str = "sharpness / threshold") -> alt.LayerChart:
    """Ratio of effective sharpness to threshold, several runs, a line at 1 and a band of 10% around it.

    ``table`` has the columns ``run``, ``step`` (or ``time``) and ``ratio``. A run whose last ratio is not finite is
    marked as diverged. Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "ratio curves"
    lines = Lines.of(
        check_table(table, {"run": "name", x: "number", "ratio": "number"}, what), x, "ratio", ["run"], what
    )
    high = min(float(lines.points["high"].max()), MOST)  # type: ignore[arg-type]
    low = max(float(lines.points["low"].min()), -MOST)  # type: ignore[arg-type]
    scale, axis = linear_axis(title, [low, high, 1 + 2 * NEAR])
    edge = alt.Chart(inline(pl.DataFrame({"low": [1 - NEAR], "mean": [1.0], "high": [1 + NEAR]})))
    height = {"type": "quantitative", "scale": scale, "axis": axis}
    band = edge.mark_rect(color=look.ALARM, opacity=0.09).encode(y=alt.Y("low", **height), y2=alt.Y2("high"))
    one = edge.mark_rule(color=look.ALARM, strokeDash=look.DASH, strokeWidth=1.4).encode(y=alt.Y("mean", **height))
    return alt.layer(band, *lines.layers(alt.Axis(title=x_title(x, lines.rows)), scale, axis), one)
