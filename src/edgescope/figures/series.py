"""Any quantity over the steps of runs: a panel a quantity, a line a run, logarithmic where that helps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines
from edgescope.figures.marks import Mark, marked
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

DECADES = 1.5
"""Positive values that span more orders of magnitude than this are drawn on a logarithmic axis."""

FLAT = 0.2
"""Where the values span less than this share of the largest, the axis does not begin at zero."""


@shown_as_picture
def series_panels(
    table: pl.DataFrame,
    *,
    titles: Mapping[str, str] | None = None,
    diverged: Collection[str] = (),
    marks: Collection[Mark] = (),
    logarithmic: bool | None = None,
    columns: int = 2,
) -> Chart:
    """Lines over steps, as large as a page for one panel, else small panels in ``columns``.

    ``table`` has the columns ``panel``, ``run``, ``step`` and ``value``; panels and runs are in its order. ``titles``
    are those of the vertical axes by panel. Runs that ``diverged`` names, and those whose last value is not finite, are
    crossed where they leave the picture; a panel without a finite value is left out. ``logarithmic`` is decided for
    each panel by :func:`log_helps` where it is None. Raises :class:`InputError` for a table without rows, columns or
    finite values.
    """
    what = "a chart over steps"
    table = check_table(table, {"panel": "name", "run": "name", "step": "number", "value": "number"}, what)
    whole = Lines.of(table, "step", "value", ["panel", "run"], what, diverged=diverged)
    names = whole.points["panel"].unique(maintain_order=True).to_list()
    panels: list[Chart] = []
    for place, name in enumerate(names):
        rows = table.filter(pl.col("panel") == name)
        log = log_helps(rows["value"]) if logarithmic is None else logarithmic
        log = log and bool((rows["value"] > 0).any())
        own = Lines.of(rows, "step", "value", ["run"], what, positive=log)
        lines = replace(own, runs=whole.runs, diverged=whole.diverged)
        title = (titles or {}).get(name, name) if len(names) == 1 else None
        scale, axis = _axis(title, lines.limits(), log)
        titled = place + columns >= len(names)
        chart = marked(alt.layer(*lines.layers(scale, axis, x_titled=titled)), marks)
        if len(names) > 1:
            heading = alt.TitleParams((titles or {}).get(name, name), limit=look.PANEL_WIDTH, **look.NAME)
            chart = chart.properties(title=heading, width=look.PANEL_WIDTH, height=look.PANEL_HEIGHT)
        panels.append(chart)
    return panels[0] if len(panels) == 1 else alt.concat(*panels, columns=columns)


def log_helps(values: pl.Series) -> bool:
    """Whether all finite values are positive and span more than ``DECADES`` orders of magnitude."""
    finite = values.filter(values.is_finite())
    if finite.is_empty():
        return False
    low, high = float(finite.min()), float(finite.max())  # type: ignore[arg-type]
    return low > 0 and high > 10**DECADES * low


def _axis(title: str | None, limits: list[float], log: bool) -> tuple[alt.Scale, alt.Axis]:
    low, high = limits
    if log:
        return log_axis(title or "", limits)
    if low < high and high - low < FLAT * max(abs(low), abs(high)) and low * high > 0:
        air = 0.06 * (high - low)
        scale = alt.Scale(domain=[low - air, high + air], nice=False, zero=False)
        return scale, alt.Axis(title=title, tickCount=5, labelExpr=PLAIN)
    return linear_axis(title, limits)
