"""An optimizer and the flows of its average over the steps: a panel a run, a line a flow, a band of oscillation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table, thin

BESIDE = 285
"""Width of a panel that has another one beside it."""
HEIGHT = 190
ALONE = 300
"""Height of a panel that stands alone."""


@shown_as_picture
def flow_panels(
    table: pl.DataFrame,
    *,
    band: pl.DataFrame | None = None,
    iterates: pl.DataFrame | None = None,
    title: str,
    logarithmic: bool = True,
    expected: float | None = None,
    zoom: tuple[float, float] | None = None,
    columns: int = 2,
) -> Chart:
    """Lines over steps, a panel for each run, with one legend for all.

    ``table`` has the columns ``panel``, ``run`` (the names of the lines), ``step`` and ``value``. ``band`` is shaded
    between its columns ``low`` and ``high``, by ``panel`` and ``step``; ``iterates`` (``panel``, ``step``, ``value``)
    are drawn thin and grey behind the lines. ``title`` is that of the vertical axes, which are ``logarithmic`` or
    linear from ``zoom`` (from zero where that is None); ``expected`` draws a dashed line. Raises :class:`InputError`
    for a table without rows, columns or values that can be drawn.
    """
    what = "flows over steps"
    table = check_table(table, {"panel": "name", "run": "name", "step": "number", "value": "number"}, what)
    whole = Lines.of(table, "step", "value", ["panel", "run"], what, positive=logarithmic)
    names = whole.points["panel"].unique(maintain_order=True).to_list()
    panels: list[Chart] = []
    for place, name in enumerate(names):
        rows = table.filter(pl.col("panel") == name)
        own = Lines.of(rows, "step", "value", ["run"], what, positive=logarithmic)
        lines = replace(own, runs=whole.runs, diverged=[])
        limits = lines.limits() + ([expected] if expected is not None else [])
        axis_title = title if place % columns == 0 else None
        if logarithmic:
            scale, axis = log_axis(axis_title or "", limits)
        elif zoom is not None:
            scale = alt.Scale(domain=list(zoom), nice=False, zero=False)
            axis = alt.Axis(title=axis_title, tickCount=5, labelExpr=PLAIN)
        else:
            scale, axis = linear_axis(axis_title, limits)
        behind = [
            *_shade(_of(band, name), scale, axis, logarithmic),
            *_iterates(_of(iterates, name), scale, axis),
        ]
        layers = lines.layers(scale, axis, x_titled=place + columns >= len(names))
        if expected is not None:
            rule = alt.Chart(inline(pl.DataFrame({"mean": [float(expected)]}))).mark_rule(**look.EXPECTED)
            layers.append(rule.encode(y=alt.Y("mean", type="quantitative", scale=scale, axis=axis)))
        panel = alt.layer(*behind, *layers)
        if len(names) == 1:
            return panel.properties(width=look.WIDTH, height=ALONE)
        heading = alt.TitleParams(name, limit=BESIDE, **look.NAME)
        panels.append(panel.properties(title=heading, width=BESIDE, height=HEIGHT))
    return alt.concat(*panels, columns=columns)


def _of(table: pl.DataFrame | None, panel: str) -> pl.DataFrame:
    return pl.DataFrame() if table is None or table.is_empty() else table.filter(pl.col("panel") == panel)


def _shade(rows: pl.DataFrame, scale: alt.Scale, axis: alt.Axis, positive: bool) -> list[Chart]:
    if rows.is_empty():
        return []
    both = [thin(rows.with_columns(value=pl.col(end)), "step", "value", ["panel"]) for end in ("low", "high")]
    ends = both[0].select("step", low="mean").join(both[1].select("step", high="mean"), on="step")
    lowest, highest = scale["domain"]
    ends = ends.with_columns(pl.col("low", "high").clip(lowest, highest)) if positive else ends
    if ends.is_empty():
        return []
    area = alt.Chart(inline(ends)).mark_area(opacity=0.28, color=look.PALETTE[-1], clip=True)
    y = alt.Y("low", type="quantitative", scale=scale, axis=axis)
    return [area.encode(x=alt.X("step", type="quantitative"), y=y, y2=alt.Y2("high"))]


def _iterates(rows: pl.DataFrame, scale: alt.Scale, axis: alt.Axis) -> list[Chart]:
    if rows.is_empty():
        return []
    thinned = thin(rows, "step", "value", ["panel"])
    base = alt.Chart(inline(thinned)).encode(x=alt.X("step", type="quantitative"))
    grey: dict[str, Any] = {"color": look.MUTED, "opacity": 0.4, "clip": True}
    if int(thinned["rows"].max()) == 1:  # type: ignore[arg-type]
        mean = alt.Y("mean", type="quantitative", scale=scale, axis=axis)
        return [base.mark_line(strokeWidth=0.9, **grey).encode(y=mean)]
    low = alt.Y("low", type="quantitative", scale=scale, axis=axis)
    return [base.mark_rule(**grey).encode(y=low, y2=alt.Y2("high"))]


@shown_as_picture
def block_means(table: pl.DataFrame, block: int) -> pl.DataFrame:
    """The means of consecutive ``block`` rows of each ``panel`` and ``run``, at their mean step."""
    groups = ["panel", "run"]
    numbered = table.with_columns(block=pl.int_range(pl.len()).over(groups) // block)
    means = numbered.group_by([*groups, "block"], maintain_order=True).agg(pl.col("step", "value").mean())
    return means.select("panel", "run", "step", "value")
