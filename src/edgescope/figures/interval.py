"""One number a run as a dot with its range, beside the number that was expected."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

ROW = 26


@shown_as_picture
def interval_dots(
    table: pl.DataFrame, *, expected: float | None = None, near: float = 0.0, title: str = "sharpness / threshold"
) -> Chart:
    """A dot a run with its range, in the order of the table, and a dashed line at what was expected.

    ``table`` has the columns ``run``, ``low``, ``middle``, ``high`` and, where runs belong together, ``group``, which
    sets colour and shape. ``near`` shades that far to both sides of ``expected``. Rows without a finite ``middle``
    are written as "no value". Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "an interval chart"
    columns = {"run": "name", "low": "number", "middle": "number", "high": "number"}
    if "group" in table.columns:
        columns["group"] = "name"
    table = check_table(table, columns, what)
    shown = table.filter(pl.all_horizontal(pl.col(c).is_finite() for c in ("low", "middle", "high")))
    if shown.is_empty():
        raise InputError(f"the table for {what} has no finite value")
    runs = table["run"].unique(maintain_order=True).to_list()
    y = alt.Y(
        "run",
        type="nominal",
        sort=runs,
        scale=alt.Scale(domain=runs),
        axis=alt.Axis(title=None, labelLimit=260, labelPadding=10),
    )
    extent = [float(shown["low"].min()), float(shown["high"].max())]  # type: ignore[arg-type]
    if expected is not None:
        extent += [expected - 1.5 * near, expected + 1.5 * near]
    air = 0.08 * ((max(extent) - min(extent)) or 1.0)
    scale = alt.Scale(domain=[min(extent) - air, max(extent) + air], nice=False, zero=False)
    x: dict[str, Any] = {
        "type": "quantitative",
        "scale": scale,
        "axis": alt.Axis(title=title, grid=True, labelExpr=PLAIN, tickCount=7),
    }
    colour: Any = alt.value(look.PALETTE[0])
    extra: dict[str, Any] = {}
    if "group" in columns:
        groups = table["group"].unique(maintain_order=True).to_list()
        colours, shapes = run_scales(groups)
        colour = alt.Color("group", type="nominal", scale=colours, legend=alt.Legend())
        extra["shape"] = alt.Shape("group", type="nominal", scale=shapes, legend=alt.Legend())
    chart = alt.Chart(inline(shown)).encode(y=y, color=colour)
    layers = [
        chart.mark_rule(strokeWidth=2.4, opacity=0.55).encode(x=alt.X("low", **x), x2=alt.X2("high")),
        chart.mark_point(size=80, filled=True, opacity=1).encode(x=alt.X("middle", **x), **extra),
    ]
    if expected is not None:
        layers = _expected(expected, near, x) + layers
    absent = table.join(shown.select("run"), on="run", how="anti").select("run")
    if not absent.is_empty():
        word = alt.Chart(inline(absent)).mark_text(text="no value", align="left", x=6, color=look.MUTED, **look.NOTE)
        layers.append(word.encode(y=y))
    return alt.layer(*layers).properties(height=ROW * len(runs))


def _expected(value: float, near: float, x: dict[str, Any]) -> list[Chart]:
    chart = alt.Chart(inline(pl.DataFrame({"low": [value - near], "middle": [value], "high": [value + near]})))
    rule = chart.mark_rule(**look.EXPECTED).encode(x=alt.X("middle", **x))
    if near <= 0:
        return [rule]
    return [chart.mark_rect(**look.NEAR).encode(x=alt.X("low", **x), x2=alt.X2("high")), rule]
