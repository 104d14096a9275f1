"""The loss at the end of short training runs over their learning rate, with the critical rates that bound it."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

WARM_UP, WITHOUT, DIVERGED = "trial", "trial without warm-up", "diverged"
KINDS = (WARM_UP, WITHOUT, DIVERGED)


@shown_as_picture
def learning_rate_trials(trials: pl.DataFrame, critical: pl.DataFrame, *, suggested: float, start_loss: float) -> Chart:
    """Points for trials, their mean at each rate as a line, and bars of critical rates above; a line at the suggestion.

    ``trials`` has the columns ``rate``, ``loss`` (infinite where diverged, drawn as crosses on the upper edge) and
    ``kind`` ("trial" or "trial without warm-up"); ``critical`` has ``name``, ``low``, ``median`` and ``high``, for
    each bar a row. ``start_loss`` is drawn dashed. The loss has a logarithmic axis where it is positive. Raises
    :class:`InputError` for tables without rows, columns, or with rates that are not positive.
    """
    what = "a chart of learning rates"
    trials = check_table(trials, {"rate": "number", "loss": "number", "kind": "name"}, what)
    critical = check_table(critical, {"name": "name", "low": "number", "median": "number", "high": "number"}, what)
    rates = [*trials["rate"], *critical["low"], *critical["high"], suggested]
    if not all(rate > 0 for rate in rates):
        raise InputError(f"the table for {what} has rates that are not positive")
    x_scale, x_axis = log_axis("learning rate", rates)
    finite = [x for x in trials["loss"] if abs(x) < float("inf")]
    losses = [*finite, start_loss]
    mean = "mean loss of the last steps"
    y_scale, y_axis = log_axis(mean, losses) if min(losses) > 0 else linear_axis(mean, losses)
    top = float(y_scale.to_dict()["domain"][1])
    kind = pl.when(pl.col("loss").is_finite()).then("kind").otherwise(pl.lit(DIVERGED))
    rows = trials.with_columns(kind=kind, loss=pl.col("loss").clip(upper_bound=top))
    x = alt.X("rate", type="quantitative", scale=x_scale, axis=x_axis)
    y = alt.Y("loss", type="quantitative", scale=y_scale, axis=y_axis)
    found = [name for name in KINDS if name in set(rows["kind"])]
    shapes = dict(zip(KINDS, ("circle", "square", "cross"), strict=True))
    colours = dict(zip(KINDS, (look.PALETTE[2], look.PALETTE[3], look.ALARM), strict=True))
    points = (
        alt.Chart(inline(rows.select("rate", "loss", "kind")))
        .mark_point(size=45, filled=True, opacity=0.9)
        .encode(
            x=x,
            y=y,
            shape=alt.Shape("kind", type="nominal", scale=_scale(found, shapes), legend=alt.Legend(title=None)),
            color=alt.Color("kind", type="nominal", scale=_scale(found, colours), legend=alt.Legend(title=None)),
        )
    )
    start = alt.Chart(inline(pl.DataFrame({"loss": [start_loss]})))
    layers = [start.mark_rule(color=look.MUTED, strokeDash=look.DASH).encode(y=y)]
    before = start.mark_text(align="right", dy=4, baseline="top", color=look.MUTED, **look.NOTE)
    layers.append(before.encode(x=alt.value(look.WIDTH), y=y, text=alt.value("before training")))
    means = rows.filter(kind=WARM_UP).group_by("rate").agg(pl.col("loss").mean()).sort("rate")
    if means.height > 1:
        layers.append(alt.Chart(inline(means)).mark_line(color=look.PALETTE[2], strokeWidth=1.4).encode(x=x, y=y))
    line = alt.Chart(inline(pl.DataFrame({"rate": [suggested], "text": [f"suggested {suggested:.2g}"]})))
    layers += [line.mark_rule(color=look.INK, strokeWidth=1.6).encode(x=x), points]
    name = line.mark_text(dy=-4, baseline="bottom", color=look.INK, **look.NOTE)
    layers.append(name.encode(x=x, y=alt.value(0), text=alt.Text("text", type="nominal")))
    lower = alt.layer(*layers).properties(width=look.WIDTH, height=look.HEIGHT)
    return alt.vconcat(_bars(critical, x_scale), lower, spacing=20)


def _bars(critical: pl.DataFrame, scale: alt.Scale) -> Chart:
    """A bar from low to high and a tick at the median of each row."""
    chart = alt.Chart(inline(critical))
    axis = alt.Axis(labels=False, ticks=False, title=None, labelExpr=PLAIN)
    row = alt.Y("name", type="nominal", sort=None, axis=alt.Axis(title=None, grid=False, labelLimit=200))
    x = alt.X("low", type="quantitative", scale=scale, axis=axis)
    bar = chart.mark_bar(height=8, color=look.ALARM, opacity=0.35).encode(x=x, x2=alt.X2("high"), y=row)
    tick = chart.mark_tick(thickness=2, size=14, color=look.ALARM)
    tick = tick.encode(x=alt.X("median", type="quantitative", scale=scale, axis=axis), y=row)
    return alt.layer(bar, tick).properties(width=look.WIDTH, height=22 * critical.height)


def _scale(names: list[str], values: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=names, range=[values[name] for name in names])
