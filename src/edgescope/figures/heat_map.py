"""Many series of one quantity over the steps of a run: a row a series, coloured by its value."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, x_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

COLUMNS = 120
"""Rectangles in a row, at most; of more steps each has the mean of several."""

ROW, LARGE_ROW = 13, 24
"""Height of a row in points, and of one of few."""

MOST_ROWS, FEW = 64, 8
OVERLAP = 0.2
"""Share of its width that a rectangle reaches under the next one, so that no seam is seen between them."""

SCALE = ["#f2f3f5", look.PALETTE[5], look.PALETTE[2], look.PALETTE[0]]
"""From light to dark, so that the order survives a grey printer."""


@shown_as_picture
def heat_map(
    table: pl.DataFrame,
    *,
    title: str,
    rows_title: str | None = None,
    logarithmic: bool = False,
    limits: tuple[float, float] | None = None,
) -> Chart:
    """A panel a run, in it a row a series and a rectangle a step, as wide as it is far to the next one.

    ``table`` has the columns ``run``, ``row``, ``step`` and ``value``; runs and rows are in its order, at most
    ``MOST_ROWS`` rows a run. ``title`` names the colours, ``rows_title`` the rows, ``limits`` are the values of the
    lightest and the darkest. Where there is no finite value (with ``logarithmic`` no positive one) nothing is drawn.
    Raises :class:`InputError` for a table without rows, columns or values that can be shown, or with too many rows.
    """
    what = "a heat map"
    table = check_table(table, {"run": "name", "row": "name", "step": "number", "value": "number"}, what)
    drawable = pl.col("value").is_finite() & ((pl.col("value") > 0) if logarithmic else True)
    table = table.with_columns(pl.when(drawable).then(pl.col("value")).alias("value"))
    if table["value"].null_count() == table.height:
        raise InputError(f"the table for {what} has no value that can be shown")
    runs = table["run"].unique(maintain_order=True).to_list()
    rows = {run: table.filter(run=run)["row"].unique(maintain_order=True).to_list() for run in runs}
    most = max(map(len, rows.values()))
    if most > MOST_ROWS:
        raise InputError(f"{most} rows in {what}", expected=f"at most {MOST_ROWS}")
    cells = _cells(table)
    low, high = limits or (float(cells["value"].min()), float(cells["value"].max()))  # type: ignore[arg-type]
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    colours = alt.Scale(type="log" if logarithmic else "linear", domain=[low, high], range=SCALE, clamp=True)
    row = LARGE_ROW if most <= FEW else ROW
    legend = alt.Legend(title=title, gradientLength=min(160, max(60, row * most - 20)), labelExpr=PLAIN, tickCount=4)
    panels = []
    for place, run in enumerate(runs):
        own = cells.filter(pl.col("run") == run)
        last = float(own["end"].max())  # type: ignore[arg-type]
        under = pl.col("end") + OVERLAP * (pl.col("end") - pl.col("step"))
        across, axis = x_axis("step", [*own["step"], *own["end"]], titled=place == len(runs) - 1)
        panel = (
            alt.Chart(inline(own.filter(pl.col("value").is_not_null()).with_columns(end=under.clip(upper_bound=last))))
            .mark_rect(clip=True, strokeWidth=0)
            .encode(
                x=alt.X("step", type="quantitative", scale=across, axis=axis),
                x2=alt.X2("end"),
                y=alt.Y(
                    "row",
                    type="nominal",
                    sort=None,
                    scale=alt.Scale(domain=rows[run], paddingInner=0.06),
                    axis=alt.Axis(title=rows_title, labelLimit=190, grid=False),
                ),
                color=alt.Color("value", type="quantitative", scale=colours, legend=legend),
            )
            .properties(width=look.WIDTH, height=row * len(rows[run]))
        )
        panels.append(panel.properties(title=alt.TitleParams(run, **look.NAME)) if len(runs) > 1 else panel)
    # Runs may have rows of different names.
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=16).resolve_scale(y="independent")


def _cells(table: pl.DataFrame) -> pl.DataFrame:
    """At most ``COLUMNS`` rectangles a row of each run: run, row, step, end, value (mean; null where there is none)."""
    steps = table.select("run", "step").unique().sort("run", "step")
    place, count = pl.int_range(pl.len()).over("run"), pl.len().over("run")
    column = pl.when(count <= COLUMNS).then(place).otherwise(place * COLUMNS // count).alias("column")
    steps = steps.with_columns(column)
    edges = steps.group_by("run", "column", maintain_order=True).agg(start=pl.col("step").min())
    gap = (pl.col("start").shift(-1) - pl.col("start")).over("run")
    edges = edges.with_columns(end=pl.col("start") + gap.fill_null(gap.median().over("run")).fill_null(1.0))
    means = table.join(steps, on=["run", "step"], maintain_order="left")
    means = means.group_by("run", "row", "column", maintain_order=True).agg(pl.col("value").mean())
    return means.join(edges, on=["run", "column"], maintain_order="left").select(
        "run", "row", "end", "value", step="start"
    )
