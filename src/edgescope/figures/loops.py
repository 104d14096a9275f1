"""An order parameter while a control goes up and down again, one panel a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, log_ticks
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

WIDTH, HEIGHT = 190, 130


@shown_as_picture
def hysteresis_loops(
    table: pl.DataFrame,
    *,
    marks: Mapping[str, float | Sequence[float]] | None = None,
    x_title: str = "weight decay",
    y_title: str = "order parameter",
    columns: int = 3,
    logarithmic: bool = False,
) -> Chart:
    """Panels in the order of ``table``, each with the way up dark and the way down light.

    ``table`` has the columns ``panel``, ``way`` ("up" or "down"), ``decay`` and ``order``, and where there are
    intervals also ``low`` and ``high``. ``marks`` draws dashed vertical lines at a decay, or at several, in the panels
    that it names. Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "hysteresis loops"
    kinds = {"panel": "name", "way": "name", "decay": "number", "order": "number"}
    interval = isinstance(table, pl.DataFrame) and {"low", "high"} <= set(table.columns)
    table = check_table(table, kinds | ({"low": "number", "high": "number"} if interval else {}), what)
    table = table.filter(pl.col("order").is_finite() & pl.col("decay").is_finite())
    if table.is_empty():
        raise InputError(f"the table for {what} has no finite value")
    colours, shapes = run_scales(["up", "down"])
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False, nice=False)
    ticks: dict[str, Any] = {"tickCount": 5}
    if logarithmic:
        decays: list[float] = table["decay"].to_list()
        ticks = {"values": log_ticks(min(decays), max(decays)), "labelExpr": PLAIN}
    panels: list[Chart] = []
    names = table["panel"].unique(maintain_order=True).to_list()
    for number, name in enumerate(names):
        last = number + columns >= len(names)
        x = alt.X("decay", type="quantitative", scale=scale, axis=alt.Axis(title=x_title if last else None, **ticks))
        title = None if number % columns else y_title
        y = alt.Y("order", type="quantitative", axis=alt.Axis(title=title, labelExpr=PLAIN, tickCount=4))
        rows = alt.Chart(inline(table.filter(panel=name)))
        colour = alt.Color("way", type="nominal", scale=colours, legend=alt.Legend(orient="top"))
        shape = alt.Shape("way", type="nominal", scale=shapes, legend=alt.Legend(orient="top"))
        line = rows.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=colour)
        dots = rows.mark_point(size=12, filled=True, opacity=1).encode(x=x, y=y, color=colour, shape=shape)
        layers: list[Chart] = [line, dots]
        if interval:
            ends = {"y": alt.Y("low", type="quantitative"), "y2": alt.Y2("high")}
            layers.append(rows.mark_rule(strokeWidth=1.6, opacity=0.5).encode(x=x, color=colour, **ends))
        if marks and name in marks:
            at = marks[name]
            marked = list(at) if isinstance(at, Sequence) else [at]
            lines = alt.Chart(inline(pl.DataFrame({"decay": marked})))
            layers.append(lines.mark_rule(**look.EXPECTED).encode(x=alt.X("decay", type="quantitative")))
        head = alt.TitleParams(name, fontSize=12, fontWeight="normal", offset=6)
        width, height = (WIDTH, HEIGHT) if len(names) > 1 else (look.WIDTH, look.HEIGHT)
        panels.append(alt.layer(*layers).properties(width=width, height=height, title=head))
    return alt.concat(*panels, columns=columns)
