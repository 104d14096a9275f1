"""What was predicted against what was measured, on symmetric logarithmic axes, with the diagonal."""

from __future__ import annotations

import math
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

POINTS = 240
"""Points a run; of more, evenly spaced ones are drawn, and those farthest from the diagonal."""

SIDE = 300


@shown_as_picture
def predicted_against_measured(
    table: pl.DataFrame,
    *,
    smallest: float | None = None,
    x_title: str = "predicted loss change of a step",
    y_title: str = "measured loss change of a step",
) -> Chart:
    """Points with the diagonal on which prediction and measurement agree.

    ``table`` has the columns ``run``, ``predicted`` and ``measured``, in the same unit. Both axes are logarithmic in
    both directions beyond ``smallest`` and linear within; by default that is the tenth percentile of the measured
    sizes. Raises :class:`InputError` for a table without rows, columns or finite pairs.
    """
    what = "a scatter chart"
    table = check_table(table, {"run": "name", "predicted": "number", "measured": "number"}, what)
    pairs = table.filter(pl.col("predicted").is_finite() & pl.col("measured").is_finite())
    if pairs.is_empty():
        raise InputError(f"the table for {what} has no finite pair", expected="finite predicted and measured values")
    sizes = pairs["measured"].abs()
    if smallest is None:
        smallest = float(sizes.filter(sizes > 0).quantile(0.1) or 1.0)
    runs = pairs["run"].unique(maintain_order=True).to_list()
    values = [*pairs["predicted"], *pairs["measured"]]
    low, high = min(values), max(values)
    air = 1.3
    first, last = (low * air if low < 0 else -smallest), (high * air if high > 0 else smallest)
    domain = [first, last]
    scale = alt.Scale(type="symlog", constant=smallest, domain=domain, nice=False)
    axis: dict[str, Any] = {"values": symlog_ticks(first, last, smallest), "labelExpr": PLAIN, "grid": True}
    colour_scale, shape_scale = run_scales(runs)
    legend = alt.Legend() if len(runs) > 1 else None
    diagonal = (
        alt.Chart(inline(pl.DataFrame({"predicted": domain, "measured": domain})))
        .mark_line(**look.EXPECTED)
        .encode(x=alt.X("predicted", type="quantitative"), y=alt.Y("measured", type="quantitative"))
    )
    points = (
        alt.Chart(inline(_fewer(pairs)))
        .mark_point(size=22, filled=False, strokeWidth=1.1, opacity=1)
        .encode(
            x=alt.X("predicted", type="quantitative", scale=scale, axis=alt.Axis(title=x_title, **axis)),
            y=alt.Y("measured", type="quantitative", scale=scale, axis=alt.Axis(title=y_title, **axis)),
            color=alt.Color("run", type="nominal", scale=colour_scale, legend=legend),
            shape=alt.Shape("run", type="nominal", scale=shape_scale, legend=legend),
        )
    )
    return alt.layer(points, diagonal).properties(width=SIDE, height=SIDE)


def symlog_ticks(low: float, high: float, smallest: float, most: int = 4) -> list[float]:
    """Zero and powers of ten on both sides, at most ``most`` a side, none smaller than ``smallest``."""
    first, last = math.ceil(math.log10(smallest)), math.floor(math.log10(max(-low, high)))
    every = max(1, math.ceil((last - first + 1) / most))
    powers = [10.0**e for e in range(last, first - 1, -every)]
    return [-p for p in powers if -p >= low] + [0.0] + [p for p in reversed(powers) if p <= high]


def _fewer(pairs: pl.DataFrame) -> pl.DataFrame:
    miss = (pl.col("measured") - pl.col("predicted")).abs()
    worst = miss.rank("ordinal", descending=True).over("run") <= POINTS // 8
    even = pl.int_range(pl.len()).over("run") % (pl.len().over("run") / (POINTS * 7 / 8)).ceil() == 0
    return pairs.filter(worst | even)
