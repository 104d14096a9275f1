"""Spectra: a smoothed density of eigenvalues on a logarithmic axis, and a few eigenvalues as stems."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis, log_axis, short
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

GRID_POINTS = 400
FLOOR = 1e-6
"""The lowest density shown, as a share of the highest: a float32 spectrum knows no more."""


@shown_as_picture
def spectral_density(
    table: pl.DataFrame, *, threshold: float | None = None, width: float | None = None, title: str = "eigenvalue λ"
) -> Chart:
    """Density of eigenvalues at one or several moments, from the nodes and weights of a quadrature.

    ``table`` has the columns ``moment`` (a name such as ``"step 200"``), ``node`` and ``weight`` (of one moment they
    sum to 1; an exact spectrum has equal weights). Every node becomes a normal density of standard deviation
    ``width``, in units of the eigenvalues, a hundred-and-fiftieth of the range shown by default; the area under each
    curve is 1. ``threshold`` draws a dashed vertical line. Raises :class:`InputError` for a table without rows,
    columns or positive weights.
    """
    what = "a spectral density"
    table = check_table(table, {"moment": "name", "node": "number", "weight": "number"}, what)
    table = table.filter(pl.col("node").is_finite() & (pl.col("weight") > 0))
    if table.is_empty():
        raise InputError(f"the table for {what} has no finite node with a positive weight")
    low, high = float(table["node"].min()), float(table["node"].max())  # type: ignore[arg-type]
    seen = [low, high] if threshold is None else [low, high, threshold]
    reach = (max(seen) - min(seen)) or max(abs(high), 1.0)
    width = reach / 150 if width is None else width
    if not width > 0:
        raise InputError(f"a smoothing width of {width}", expected="a positive number")
    grid = np.linspace(min(seen) - 5 * width, max(seen) + 5 * width, GRID_POINTS)
    moments = table["moment"].unique(maintain_order=True).to_list()
    frames = []
    for moment in moments:
        rows = table.filter(pl.col("moment") == moment)
        density = smooth_density(rows, grid, width)
        frames.append(pl.DataFrame({"moment": moment, "node": grid, "density": density}))
    curve = pl.concat(frames)
    floor = FLOOR * float(curve["density"].max())  # type: ignore[arg-type]
    # Below the floor a curve leaves the picture; its logarithm must stay finite all the same.
    curve = curve.with_columns(pl.col("density").clip(lower_bound=1e-3 * floor))
    scale, axis = log_axis("density (per unit of λ)", [floor, *curve["density"].filter(curve["density"] > floor)])
    x_axis = alt.Axis(title=title, labelExpr=PLAIN)
    x_scale = alt.Scale(domain=[float(grid[0]), float(grid[-1])], nice=False, zero=False)
    legend = alt.Legend(symbolType="stroke", symbolSize=400) if len(moments) > 1 else None
    styles = [[1, 0], [7, 2], [3, 2], [8, 2, 2, 2], [1, 2], [12, 3]]
    line = (
        alt.Chart(inline(curve))
        .mark_line(strokeWidth=1.7, clip=True)
        .encode(
            x=alt.X("node", type="quantitative", scale=x_scale, axis=x_axis),
            y=alt.Y("density", type="quantitative", scale=scale, axis=axis),
            color=alt.Color("moment", type="nominal", scale=run_scales(moments)[0], legend=legend),
            strokeDash=alt.StrokeDash(
                "moment",
                type="nominal",
                scale=alt.Scale(domain=moments, range=[styles[i % len(styles)] for i in range(len(moments))]),
                legend=legend,
            ),
        )
    )
    return alt.layer(line, *_threshold(threshold, "x"))


@shown_as_picture
def spectral_stems(table: pl.DataFrame, *, threshold: float | None = None, title: str = "eigenvalue λ") -> Chart:
    """A few eigenvalues as stems against their rank, at one or several moments.

    ``table`` has the columns ``moment``, ``k`` (1 is the largest) and ``value``. ``threshold`` draws a dashed line.
    Raises :class:`InputError` for a table without rows, columns or finite values.
    """
    what = "spectral stems"
    table = check_table(table, {"moment": "name", "k": "number", "value": "number"}, what)
    table = table.filter(pl.col("value").is_finite()).with_columns(pl.col("k").cast(pl.Int64), base=pl.lit(0.0))
    if table.is_empty():
        raise InputError(f"the table for {what} has no finite value")
    moments = table["moment"].unique(maintain_order=True).to_list()
    scale, axis = linear_axis(title, [*table["value"], *([] if threshold is None else [threshold])])
    colour_scale, shape_scale = run_scales(moments)
    legend = alt.Legend() if len(moments) > 1 else None
    stem = alt.Chart(inline(table)).encode(
        x=alt.X("k", type="ordinal", axis=alt.Axis(title="rank k", labelAngle=0)),
        xOffset=alt.XOffset(
            "moment", type="nominal", scale=alt.Scale(domain=moments, paddingInner=0.5, paddingOuter=0.7)
        ),
        y=alt.Y("value", type="quantitative", scale=scale, axis=axis),
        color=alt.Color("moment", type="nominal", scale=colour_scale, legend=legend),
    )
    dot = stem.mark_point(size=48, filled=True, opacity=1).encode(
        shape=alt.Shape("moment", type="nominal", scale=shape_scale, legend=legend)
    )
    return alt.layer(
        stem.mark_rule(strokeWidth=1.5).encode(y2=alt.Y2("base")), dot, *_threshold(threshold, "y")
    ).properties(width=look.WIDTH)


def smooth_density(rows: pl.DataFrame, grid: Float[np.ndarray, " g"], width: float) -> Float[np.ndarray, " g"]:
    """The density of nodes and weights on a grid, each node a normal density of standard deviation ``width``; its
    area is 1."""
    weights = rows["weight"].to_numpy() / rows["weight"].sum()
    bumps = np.exp(-0.5 * ((grid[:, None] - rows["node"].to_numpy()) / width) ** 2)
    return bumps @ weights / (width * np.sqrt(2 * np.pi))


def _threshold(value: float | None, channel: str) -> list[Chart]:
    if value is None or not np.isfinite(value):
        return []
    chart = alt.Chart(inline(pl.DataFrame({"threshold": [float(value)]})))
    place = alt.X("threshold", type="quantitative") if channel == "x" else alt.Y("threshold", type="quantitative")
    rule = chart.mark_rule(**look.EXPECTED)
    corner: dict[str, Any] = (
        {"align": "right", "dx": -5, "y": 8} if channel == "x" else {"align": "right", "dy": -7, "x": "width"}
    )
    text = chart.mark_text(text=f"threshold {short(value)}", color=look.ALARM, **look.NOTE, **corner)
    return [rule.encode(**{channel: place}), text.encode(**{channel: place})]
