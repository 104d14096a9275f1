"""Effective sharpness over threshold against step or time: one is the edge of stability."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import X, linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

NEAR = 0.1
"""Half the width of the shaded band around one."""


@shown_as_picture
def ratio_curves(
    table: pl.DataFrame,
    *,
    x: X = "step",
    diverged: Collection[str] = (),
    title: str = "sharpness / threshold",
    logarithmic: bool = False,
) -> Chart:
    """Ratio of effective sharpness to threshold, several runs, a line at 1 and a band of 10% around it.

    ``table`` has the columns ``run``, ``step`` (or ``time``) and ``ratio``; with ``logarithmic`` those above 0 are
    drawn. Runs that ``diverged`` names, and those whose last ratio is not finite, are crossed where they leave the
    picture. Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "ratio curves"
    table = check_table(table, {"run": "name", x: "number", "ratio": "number"}, what)
    lines = Lines.of(table, x, "ratio", ["run"], what, diverged=diverged, positive=logarithmic)
    if logarithmic:
        scale, axis = log_axis(title, [*lines.limits(), 1 - 2 * NEAR, 1 + 2 * NEAR])
    else:
        scale, axis = linear_axis(title, [*lines.limits(), 1 + 2 * NEAR])
    edge = alt.Chart(inline(pl.DataFrame({"low": [1 - NEAR], "mean": [1.0], "high": [1 + NEAR]})))
    height: dict[str, Any] = {"type": "quantitative", "scale": scale, "axis": axis}
    band = edge.mark_rect(**look.NEAR).encode(y=alt.Y("low", **height), y2=alt.Y2("high"))
    one = edge.mark_rule(**look.EXPECTED).encode(y=alt.Y("mean", **height))
    return alt.layer(band, *lines.layers(scale, axis), one)
