"""The largest eigenvalues of the Hessian against step or time, with the dashed threshold of each run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import X, linear_axis, log_axis, short
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table, thin_to_extremes

LABEL_SHARE = 0.3
"""Of the width of a panel, what the label of a threshold takes at most."""


@shown_as_picture
def eigenvalue_curves(
    table: pl.DataFrame,
    thresholds: pl.DataFrame | None = None,
    *,
    x: X = "step",
    layout: Literal["apart", "together"] = "apart",
    columns: int = 2,
    diverged: Collection[str] = (),
    title: str = "sharpness λ (units of 1/η)",
    logarithmic: bool = False,
) -> Chart:
    """Eigenvalues in one panel a run, each with its own axis (``"apart"``), or all in one (``"together"``).

    ``table`` has the columns ``run``, ``step`` (or ``time``), ``value`` and, where there are several eigenvalues, ``k``
    (1 is the largest); the further ones are drawn fainter. ``thresholds`` has ``run``, ``threshold`` and, where it
    moves along the run, ``step`` (or ``time``). With ``logarithmic`` only positive values are drawn. Runs that
    ``diverged`` names, and those whose last value is not finite, are crossed where they leave the picture. Raises
    :class:`InputError` for tables without rows or columns.
    """
    what = "eigenvalue curves"
    wanted = {"run": "name", x: "number", "value": "number"}
    if "k" in table.columns:
        table = table.with_columns(pl.col("k").cast(pl.Int64))
        wanted["k"] = "name"
    by = ["run", "k"] if "k" in wanted else ["run"]
    lines = Lines.of(check_table(table, wanted, what), x, "value", by, what, diverged=diverged, positive=logarithmic)
    edges = _edges(lines, thresholds, x)
    if layout == "together":
        return _panel(lines, edges, title, logarithmic=logarithmic)
    panels = []
    for place, run in enumerate(lines.runs):
        panel = _panel(
            lines.only(run),
            edges.filter(pl.col("run") == run),
            title if place % columns == 0 else None,
            x_titled=place + columns >= len(lines.runs),
            legend=False,
            worded=False,
            logarithmic=logarithmic,
        )
        heading = alt.TitleParams(_heading(run, lines, edges), fontSize=12, fontWeight="normal", offset=6)
        panels.append(panel.properties(title=heading, width=look.PANEL_WIDTH, height=look.PANEL_HEIGHT))
    return alt.concat(*panels, columns=columns)


def _heading(run: str, lines: Lines, edges: pl.DataFrame) -> str:
    """The run, its threshold where that does not move, and whether it diverged."""
    words = [f"{run} (× diverged)" if run in lines.diverged else run]
    values = edges.filter(pl.col("run") == run)["threshold"].unique()
    if len(values) == 1:
        words.append(f"threshold {short(values[0])}")
    return ", ".join(words)


def _edges(lines: Lines, thresholds: pl.DataFrame | None, x: str) -> pl.DataFrame:
    """The thresholds as lines: run, x, threshold; one without further points spans the whole of its run."""
    if thresholds is None:
        return pl.DataFrame(schema={"run": pl.String, x: pl.Float64, "threshold": pl.Float64})
    moving = x in thresholds.columns
    wanted = {"run": "name", "threshold": "number"} | ({x: "number"} if moving else {})
    edges = check_table(thresholds, wanted, "thresholds").filter(pl.col("threshold").is_finite())
    first, last = pl.col(x).min().alias("first"), pl.col(x).max().alias("last")
    spans = lines.points.group_by("run", maintain_order=True).agg(first, last)
    alone = (pl.col("first") == pl.col("last")).cast(pl.Int64)  # a single step, with the axis around it
    spans = spans.with_columns(first=pl.col("first") - alone, last=pl.col("last") + alone)
    if moving:
        edges = edges.join(spans, on="run", maintain_order="left").filter(pl.col(x).is_between("first", "last"))
        single = edges.filter(pl.len().over("run") == 1)
        ends = [single.with_columns(pl.col(end).alias(x)) for end in ("first", "last")]
        edges = pl.concat([edges, *ends]).sort(x, maintain_order=True)
    else:
        both = spans.select("run", pl.concat_list("first", "last").alias(x))
        edges = edges.join(both, on="run", maintain_order="left").explode(x)
    drawn = edges.select("run", x, "threshold").filter(pl.col("run").is_in(lines.runs))
    return thin_to_extremes(drawn, x, "threshold", ["run"])


def _panel(
    lines: Lines,
    edges: pl.DataFrame,
    title: str | None,
    x_titled: bool = True,
    legend: bool = True,
    worded: bool = True,
    logarithmic: bool = False,
) -> Chart:
    heights = [*lines.limits(), *edges["threshold"].drop_nulls()]
    scale, axis = log_axis(title or "", [h for h in heights if h > 0]) if logarithmic else linear_axis(title, heights)
    fade: dict[str, Any] = {}
    marked = None
    if "k" in lines.by:
        order = sorted(lines.points["k"].unique(), key=int)
        opacities = [look.FADES[min(i, len(look.FADES) - 1)] for i in range(len(order))]
        k_scale = alt.Scale(domain=order, range=opacities)
        fade, marked = (
            {"opacity": alt.Opacity("k", type="nominal", scale=k_scale, legend=None)},
            pl.col("k") == order[0],
        )
    layers = lines.layers(scale, axis, x_titled=x_titled, legend=legend, line=fade, marked=marked)
    return alt.layer(*layers, *_thresholds(edges, lines, scale, worded))


def _thresholds(edges: pl.DataFrame, lines: Lines, scale: alt.Scale, worded: bool) -> list[Chart]:
    """Dashed lines: labelled beside a single run if ``worded``, else in the colours of the runs."""
    if edges.is_empty():
        return []
    x = alt.X(lines.x, type="quantitative")
    y = alt.Y("threshold", type="quantitative", scale=scale)
    if len(lines.runs) > 1:
        dash = alt.StrokeDash(
            "name",
            type="nominal",
            scale=alt.Scale(domain=["threshold"], range=[look.DASH]),
            legend=alt.Legend(symbolType="stroke", symbolSize=400),
        )
        colour = alt.Color("run", type="nominal", scale=run_scales(lines.runs)[0])
        named = alt.Chart(inline(edges.with_columns(name=pl.lit("threshold"))))
        return [named.mark_line(strokeWidth=1.4, clip=True).encode(x=x, y=y, color=colour, strokeDash=dash)]
    line = alt.Chart(inline(edges)).mark_line(strokeWidth=1.4, clip=True)
    dashed = line.encode(x=x, y=y, color=alt.value(look.ALARM), strokeDash=alt.value(look.DASH))
    if not worded:
        return [dashed]
    left, above = _freest_place(lines, edges)
    end = edges.sort(lines.x).head(1) if left else edges.sort(lines.x).tail(1)
    moves = edges["threshold"].n_unique() > 1
    word = alt.Chart(inline(end)).mark_text(
        text="threshold" if moves else f"threshold {short(end['threshold'][0])}",
        align="left" if left else "right",
        dx=4 if left else -4,
        dy=-7 if above else 9,
        color=look.ALARM,
        **look.NOTE,
    )
    return [dashed, word.encode(x=x, y=y)]


def _freest_place(lines: Lines, edges: pl.DataFrame) -> tuple[bool, bool]:
    """Where a label is farthest from the curves: whether at the left end of the threshold, and whether above it.

    At the left and above if no other place is better, since sharpness usually starts below the threshold.
    """
    points, ordered = lines.points, edges.sort(lines.x)
    first, last = ordered[lines.x][0], ordered[lines.x][-1]
    room: dict[tuple[bool, bool], float] = {}
    for left in (True, False):
        limit = first + LABEL_SHARE * (last - first) if left else last - LABEL_SHARE * (last - first)
        near = points.filter(pl.col(lines.x) <= limit if left else pl.col(lines.x) >= limit)
        height = ordered["threshold"][0 if left else -1]
        for above in (True, False):
            side = near.filter(pl.col("high") >= height if above else pl.col("low") <= height)
            gaps = side["low"] - height if above else height - side["high"]
            distance = gaps.clip(0).min()
            room[left, above] = float("inf") if distance is None else float(distance)
    return max(room, key=room.__getitem__)  # of equal ones the first
