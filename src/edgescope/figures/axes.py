"""Axes: their titles in symbols and units, their ticks on logarithmic scales, their limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import altair as alt
import polars as pl

X = Literal["step", "time"]

X_TITLES: dict[str, str] = {"step": "step", "time": "time η · step"}


def x_title(x: str, rows: int = 1) -> str:
    """The title of the horizontal axis; where up to ``rows`` measurements share a point it says how they are drawn."""
    title = X_TITLES.get(x, x)
    return title if rows == 1 else f"{title}   (line: mean of up to {rows} measurements, band: their range)"


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Ticks of a logarithmic axis from ``low`` to ``high``: 1, 2, 5 over few decades, else at most ``most`` powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 3:
        ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        inside = [t for t in ticks if low <= t <= high]
        if len(inside) >= 2:
            return inside
    every = max(1, math.ceil((last - first) / most))
    return [10.0**e for e in range(first, last + 1) if e % every == 0]


def log_axis(title: str, values: Sequence[float], channel: type[alt.Y] | type[alt.X] = alt.Y) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis for the positive ``values`` on a logarithmic scale, with a little air at both ends."""
    low, high = min(values), max(values)
    low, high = (low / 1.1, high * 1.1) if high > low else (low / 2, high * 2)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return scale, alt.Axis(title=title, values=log_ticks(low, high), format="~g")


def limits(points: pl.DataFrame, by: str = "run") -> list[float]:
    """The lowest and highest value that the chart shows, for ``points`` as :func:`edgescope.figures.thin.thin` gives them.

    A run on its way to infinity would squeeze all others into a line: nothing is shown beyond ten times the largest
    median or first value of any run.
    """
    usual = points.group_by(by).agg(pl.max_horizontal(pl.col("mean").median(), pl.col("mean").first()).alias("usual"))
    top = 10 * float(usual["usual"].max())  # type: ignore[arg-type]
    high = float(points["high"].max())  # type: ignore[arg-type]
    return [float(points["low"].min()), min(high, top) if top > 0 else high]  # type: ignore[arg-type]


def linear_axis(title: str | None, values: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis from zero (or the lowest of ``values``, where that is negative) to a little above the highest."""
    low, high = min(0.0, min(values)), max(0.0, max(values))
    air = 0.06 * ((high - low) or 1.0)
    domain = [low - air if low < 0 else 0.0, high + air if high > 0 else 0.0]
    return alt.Scale(domain=domain, nice=False, zero=False), alt.Axis(title=title, tickCount=6, format="~g")
